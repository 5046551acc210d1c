"""Where the time of a question goes, from `ask` to the answer, as one bar.

    python -m bench.trace [--count 2000] [--out bar.svg] [--page page.md]

Asks one question after the other of a home whose processes note when it passes (see
sitecustomize.py), and prints the median length of each stretch of the way in microseconds. The
marks themselves cost about 2 us each. The floor, asked in the same run, stands beside it.
"""

import argparse
import os
import shutil
import signal
import statistics
import time
from bisect import bisect
from pathlib import Path
from typing import Any

from bench import command, markers
from bench.cost import chain, plot
from bench.cost.disk import scratch_folder
from bench.cost.floor import floor

HERE = Path(__file__).parent
MARK = "way"  # of the table in a page
# The marks in the order in which a question passes them, and what is done up to each.
WAY = (
    ("store<", "the asker: credentials, token"),
    ("receive<", "into the socket, the poller wakes"),
    ("send<", "take: redaction, rate budget, message, delivery, durable commit"),
    ("send>", "read the question, write it into the pipe"),
    ("request<", "the worker wakes"),
    ("reply<", "decode, beat, report progress, echo"),
    ("on_reply<", "the poller reads the reply"),
    ("turn<", "and ends the cycle"),
    ("settled<", "settle: answer, audit, durable commit"),
    ("woken", "into the socket, the asker wakes"),
    ("read", "read the answer"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="where to draw the bar, as SVG")
    parser.add_argument("--page", type=Path, help="a page whose table is to be made anew")
    given = parser.parse_args()
    with scratch_folder() as folder:
        lowest = ask_floor(folder, given.count)
        spans = trace(folder, given.count)
    rows = table(spans, lowest)
    print("\n".join(f"{text:65} {time:>8} {share:>7}" for text, time, share in rows))
    if given.out:
        draw(spans, lowest, given.out)
    if given.page:
        fill(given.page, rows)
    return 0


def table(spans: dict[str, float], lowest: float) -> list[tuple[str, str, str]]:
    """Return what is done, how long it takes, and its share of the whole."""
    whole = sum(spans.values())
    return [
        *((text, f"{span:.0f} µs", f"{span / whole:.0%}") for text, span in spans.items()),
        ("together", f"{whole:.0f} µs", "100%"),
        ("the floor", f"{lowest:.0f} µs", f"{lowest / whole:.0%}"),
    ]


def fill(page: Path, rows: list[tuple[str, str, str]]) -> None:
    """Replace the table between the markers of the page."""
    lines = ["| what | time | share |", "| --- | ---: | ---: |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    markers.fill(page, MARK, "\n".join(lines))


def ask_floor(folder: Path, count: int) -> float:
    """Return the median time of a question to the floor in microseconds."""
    (below := folder / "floor").mkdir()
    with floor(below) as asker:
        times = []
        for _ in range(count):
            began = time.monotonic_ns()
            asker.ask([chain.TEXT])
            times.append((time.monotonic_ns() - began) / 1000)
    return statistics.median(times)


def trace(folder: Path, count: int) -> dict[str, float]:
    """Return the median length of each stretch in microseconds."""
    marks = folder / "marks"
    marks.mkdir()
    shutil.copy(HERE / "sitecustomize.py", marks)
    path = os.pathsep.join(filter(None, [str(marks), os.environ.get("PYTHONPATH")]))
    os.environ.update(PYTHONPATH=path)  # for the home that is started
    with chain.home(folder, chain.CONFIG) as asker:
        client, connection = asker.client, asker.connection
        asked: list[dict[str, int]] = []
        store = connection.store

        def marked(*arguments: Any, **more: Any) -> Any:
            asked[-1]["store<"] = time.monotonic_ns()
            return store(*arguments, **more)

        connection.store = marked  # type: ignore[method-assign]
        for _ in range(count):
            asked.append({"ask": time.monotonic_ns()})
            ids = client.ask([chain.TEXT], "main", connection=connection).ids
            state = connection.state(ids[0])  # which may have come with the word that it is stored
            assert (state and state.answer) or connection.wait(10.0), "no answer"
            asked[-1]["woken"] = time.monotonic_ns()
            [result] = client.wait(ids, connection)
            asked[-1]["read"] = time.monotonic_ns()
            assert result.answer == chain.TEXT
        asker.scratch.signal(signal.SIGTERM)  # they write their marks when they end
        end = time.monotonic() + 30
        while asker.scratch.processes():
            assert time.monotonic() < end, "the home does not end"
            time.sleep(0.05)
    seen = sorted(
        (int(moment), name)
        for file in marks.glob("*.marks")
        for name, moment in (line.split() for line in file.read_text().splitlines())
    )
    return stretches(asked[count // 10 :], seen)


def stretches(asked: list[dict[str, int]], seen: list[tuple[int, str]]) -> dict[str, float]:
    """Return the stretches of questions of which every mark was found."""
    moments = [moment for moment, _ in seen]
    ways = []
    for own in asked:
        passed = dict(own)
        for moment, name in seen[bisect(moments, own["ask"]) : bisect(moments, own["read"])]:
            # Turns with nothing to settle come before; the one that counts follows the reply.
            if name != "turn<" or "on_reply<" in passed:
                passed.setdefault(name, moment)
        if all(name in passed for name, _ in WAY):
            ways.append(passed)
    names = ["ask", *(name for name, _ in WAY)]
    return {
        text: statistics.median(way[end] - way[start] for way in ways) / 1000
        for start, (end, text) in zip(names, WAY, strict=False)
    }


def draw(spans: dict[str, float], lowest: float, out: Path) -> None:
    """Draw both as bars, one below the other."""
    with plot.drawing(8.0, 3.6) as picture:
        axes = picture.add_subplot()
        left = 0.0
        for number, (text, span) in enumerate(spans.items()):
            colour = f"C{number % 10}"
            hatch = "//" if number >= 10 else None
            axes.barh(
                "autopoll", span, left=left, color=colour, hatch=hatch, label=f"{text}: {span:.0f}"
            )
            left += span
        axes.barh("floor", lowest, color=plot.NO_TARGET, label=f"the floor: {lowest:.0f}")
        axes.set_xlabel("microseconds from asking to the answer, one question at a time, medians")
        picture.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
        out.write_bytes(plot.svg(picture))


if __name__ == "__main__":
    raise SystemExit(command.run(main))
