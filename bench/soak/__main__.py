"""One million questions to one home, with every process restarted in the middle of them.

    python -m bench.soak [--questions 1000000] [--seconds S] [--rate R] [--window 10000]
                      [--out bench/results]

Sampled as it goes. Promised: memory, descriptors, the write-ahead log and the 99th percentile of
latency grow by less than 1 % per 100,000 questions, by least squares after a warm-up; no question
is lost, answered wrong or answered twice; and after 100,000 questions each process holds what it
held after 1,000. Writes soak.json and soak.svg; exit 1 when a promise does not hold. With --seconds
it ends after that time, however many questions that were; with --rate it asks no faster than that
many a second, in place of as fast as they are answered.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import apsw
import msgspec

from autopoll import __version__
from autopoll.bridge.connect import connect
from autopoll.cli.interrupt import undisturbed
from autopoll.errors import AutopollError, Down
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.ops.down import down
from autopoll.ops.init import found
from bench import command
from bench.cost import plot
from bench.cost.disk import scratch_folder
from bench.cost.machine import Machine, this_machine
from bench.cost.results import folder as results_folder
from bench.cost.results import put
from bench.soak import promise
from bench.soak.asker import BATCH, Asker
from bench.soak.flatness import judge_all, table
from bench.soak.restarts import PLAN, Done, Restarts
from bench.soak.sample import Held, Sample, look, size_of

CONFIG = """
[shards.main]
backend = "echo"
options = { concurrency = 8 }
[access]
rate_per_second = 1000000.0
rate_burst = 1000000
"""
positive = command.number(int, 1, 10**9)


class Record(msgspec.Struct, kw_only=True):
    """The soak as it is written to soak.json."""

    version: str
    machine: Machine
    started: datetime
    asked: int = 0
    seconds: float = 0.0
    faults: list[str] = []
    restarts: list[Done] = []
    samples: list[Sample] = []
    verdicts: list[dict[str, object]] = []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--questions", type=positive, default=1_000_000)
    parser.add_argument("--seconds", type=positive, help="end after so long")
    parser.add_argument("--rate", type=positive, help="questions a second at most")
    parser.add_argument("--window", type=positive, help="questions of a sample; else a hundredth")
    parser.add_argument("--out", type=Path, default=Path("bench", "results"))
    given = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("AUTOPOLL_")]:
        del os.environ[name]  # what is set there is meant for another home
    with results_folder(given.out) as out, running_home() as home:
        record = soak(home, given.questions, given.seconds, given.rate, given.window)
        return tell(record, out)


@contextmanager
def running_home() -> Iterator[Home]:
    """Have a home up in a temporary folder, and nothing of it afterwards."""
    with scratch_folder() as folder:
        (folder / "autopoll.toml").write_text(CONFIG)
        home, _ = found(folder)
        try:
            # To its end, even when interrupted: a home that is half up cannot be taken down.
            child = subprocess.Popen(
                [sys.executable, "-m", "autopoll", "up", "--home", folder], start_new_session=True
            )
            try:
                child.wait()
            finally:
                child.wait()
            if child.returncode:
                raise Down(f"the home of the soak does not come up (exit {child.returncode})")
            yield home
        finally:
            with undisturbed():
                down(home, load(home), lambda _: None)


def soak(
    home: Home, questions: int, seconds: int | None, rate: int | None, window: int | None
) -> Record:
    """Ask, restart and sample; what goes wrong ends it and is among the faults of the record."""
    record = Record(version=__version__, machine=this_machine(home.root), started=datetime.now(UTC))
    config = load(home)
    restarts = Restarts(home, lambda: {name: held.pid for name, held in look(home).items()})
    began = time.monotonic()
    with closing(connect(home, config)) as bridge:
        asker = Asker(home, config, bridge, rate)
        try:
            for sample in windows(home, asker, restarts, questions, seconds, window, record.faults):
                record.samples.append(sample)
                show(sample)
        except AutopollError as error:
            record.faults.append(error.what)
        finally:
            restarts.wait()
        record.restarts = restarts.done
        record.asked, record.seconds = asker.asked, round(time.monotonic() - began, 1)
        record.faults += miscounted(home, asker)
    return record


def windows(
    home: Home,
    asker: Asker,
    restarts: Restarts,
    questions: int,
    seconds: int | None,
    window: int | None,
    faults: list[str],
) -> Iterator[Sample]:
    """Yield a sample of each window until all is asked, or the time is up, and all is restarted."""
    size = window or max(BATCH, questions // 100)
    began = time.monotonic()
    judged = not seconds and questions * PLAN[0][0] > promise.LAST
    holdings: dict[int, dict[str, Held]] = {}
    share = 0.0
    while share < 1 or not restarts.are_over:
        took: list[float] = []
        log, restarting = 0, False
        while len(took) < size and (share < 1 or not restarts.are_over):
            took += asker.batch(min(BATCH, questions - asker.asked) if share < 1 else BATCH)
            passed = time.monotonic() - began
            share = max(asker.asked / questions, passed / seconds if seconds else 0.0)
            restarts.step(share, asker.asked)
            restarting |= restarts.is_under_way
            log = max(log, size_of(home.var / "bridge.db-wal"))
            if judged and asker.asked in (promise.FIRST, promise.LAST):
                holdings[asker.asked] = promise.quiet(lambda: look(home))
        took.sort()
        yield Sample(
            asked=asker.asked,
            seconds=round(time.monotonic() - began, 2),
            p50_ms=round(statistics.median(took), 3),
            p99_ms=round(took[len(took) * 99 // 100], 3),
            log=log,
            database=size_of(home.var / "bridge.db"),
            restarting=restarting,
            held=look(home),
        )
    if judged:
        kept, text = promise.compare(holdings[promise.FIRST], holdings[promise.LAST])
        print(f"\nafter {promise.LAST:,} questions, against after {promise.FIRST:,}:\n{text}")
        if not kept:
            faults.append(f"after {promise.LAST:,} questions a process holds too much")


def miscounted(home: Home, asker: Asker) -> list[str]:
    """Return what the database says against it: lost, wrong, or answered twice."""
    with closing(
        apsw.Connection(str(home.var / "bridge.db"), flags=apsw.SQLITE_OPEN_READONLY)
    ) as db:
        [(messages, answered, dead)] = db.execute(
            "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM answers),"
            " (SELECT count(*) FROM deliveries WHERE state='dead')"
        )
    asked = messages - answered
    counts = f"{asker.asked:,} asked, {messages:,} messages, {answered:,} answers, {dead:,} dead"
    found = [f"{asker.wrong:,} answers are wrong"] if asker.wrong else []
    # A question that was answered twice would stand beside two answers, one that was lost, alone.
    if dead or not asked == answered == asker.asked:
        found.append(f"lost or doubled: {counts}")
    print(f"\n{counts}")
    return found


def show(sample: Sample) -> None:
    held = "  ".join(
        f"{name} {each.rss / 1e6:.1f} MB {each.fds}" for name, each in sample.held.items()
    )
    print(
        f"{sample.asked:>9,} in {sample.seconds:6.0f} s  p99 {sample.p99_ms:7.1f} ms"
        f"  log {sample.log / 1e6:5.1f} MB  {held}{'  restarting' if sample.restarting else ''}",
        flush=True,
    )


def tell(record: Record, out: Path) -> int:
    """Print the verdicts, write the files, and return the exit code."""
    verdicts = judge_all(record.samples)
    record.verdicts = [
        {**msgspec.structs.asdict(each), "word": each.word, "good": each.is_good}
        for each in verdicts
    ]
    record.faults += [f"{each.name}: {each.word}" for each in verdicts if not each.is_good]
    for each in record.restarts:
        print(f"{each.name} restarted after {each.asked:,} questions, in {each.seconds:.1f} s")
    print(f"\n{table(verdicts)}\n")
    put(out / "soak.json", msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    if not plot.is_possible():
        print(plot.LEFT_OUT)
    elif record.samples:
        from bench.soak.chart import chart

        put(out / "soak.svg", chart(record.samples))
    for fault in record.faults:
        print(f"FAIL  {fault}")
    return 1 if record.faults else 0


if __name__ == "__main__":
    raise SystemExit(command.run(main))
