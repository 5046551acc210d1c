"""The tables of docs/ipc.md, made from figures so that no number is typed by hand.

python -m bench.ipc.page
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bench import markers
from bench.cost import report
from bench.cost.figures import Figure
from bench.ipc.matrix import MS, PLACED, SECTION, SIZES, STREAMS
from bench.ipc.memory import GIVE_UP_S

ROOT = Path(__file__).parents[2]
MARK = "figures"
_BESIDE = " beside "
_TIMES = """\
Round trips with both ends on one core, p50 and how many times that of `pipes`; then what goes
through with many in flight:"""


def tables(figures: Iterable[Figure]) -> str:
    """Return Markdown: what each channel costs, how its times grow, and how near ours comes."""
    ours = [figure for figure in figures if figure.section == SECTION]
    found: dict[str, dict[str, Figure]] = {}
    for figure in ours:
        channel, _, what = figure.name.partition(": ")
        found.setdefault(what, {})[channel] = figure
    channels = list(found["caller held"])
    parts = [
        _table(["", *channels], _answers(found, channels)),
        _TIMES,
        _table(["", *channels], _sizes(found, channels)),
        "Ours beside others, in the same run:",
        _table(["round trip", "beside", "ratio", "target"], _ratios(ours)),
    ]
    return "\n\n".join(parts)


def _answers(found: dict[str, dict[str, Figure]], channels: list[str]) -> list[list[str]]:
    rows: dict[str, tuple[str, Callable[[Figure], str]]] = {
        "fork and exec, a request": ("starting them", lambda each: _time(each) or "none"),
        "process-table entries, a request": (
            "processes a request",
            lambda each: f"{each.value:.1f}".removesuffix(".0"),
        ),
        "memory of the server": ("memory of the server", _memory),
        "memory that exchanges leave behind": ("memory more", _memory),
        "descriptors that they leave behind": (
            "descriptors more",
            lambda each: f"{each.value:.0f}",
        ),
        "concurrent requests: 200 B, a second": (
            "throughput 200 B",
            lambda each: _short(each.value),
        ),
        "resilience: a kill -9 in mid-frame is noticed after": ("death noticed", _noticed),
        "response time: 200 B, p50 (p99)": (
            "round trip 200 B",
            lambda each: f"{_short(each.value)} ({_short(each.p99 or 0)}) µs",
        ),
        "loop blocking: the caller stands still for": ("caller held", _time),
        "session state": (
            "processes a request",
            lambda each: "kept" if each.value < 0.5 else "lost with each request",
        ),
        "error recovery: answered again after": ("back", _time),
        "reliability: exchanges, all exact": ("exact exchanges", lambda each: f"{each.value:,.0f}"),
    }
    return [
        [title, *(show(found[what][channel]) for channel in channels)]
        for title, (what, show) in rows.items()
    ]


def _sizes(found: dict[str, dict[str, Figure]], channels: list[str]) -> list[list[str]]:
    def cell(figure: Figure) -> str:
        return f"{_time(figure)} ({_short(figure.ratio or 0)} x)"

    def rate(figure: Figure) -> str:
        return f"{_short(figure.value)}{' MB' if figure.unit == 'MB_per_s' else ''}"

    rows = {f"round trip {size}": (size, cell) for size in SIZES}
    placed = f"{PLACED}, placed by the kernel"
    rows |= {f"round trip {placed}": (placed, cell)}
    rows |= {f"throughput {size}": (f"{size}, a second", rate) for size in STREAMS}
    return [
        [title, *(show(found[what][channel]) for channel in channels)]
        for what, (title, show) in rows.items()
    ]


def _ratios(figures: Iterable[Figure]) -> list[list[str]]:
    rows = []
    for figure in figures:
        what, beside, other = figure.name.partition(_BESIDE)
        if beside:
            target = "" if figure.target is None else f"≤ {figure.target} ({_verdict(figure)})"
            rows.append([what.replace(": round trip", ","), other, f"{figure.ratio:.2f}", target])
    return rows


def _verdict(figure: Figure) -> str:
    return "met" if figure.met else "missed"


def _noticed(figure: Figure) -> str:
    return "never" if figure.value >= GIVE_UP_S * MS else _time(figure)


def _time(figure: Figure) -> str:
    """Return the time in the unit that reads best, and nothing for no time."""
    us = figure.value * (MS if figure.unit == "ms" else 1)
    if not us:
        return ""
    return f"{_short(us)} µs" if us < MS else f"{_short(us / MS)} ms"


def _memory(figure: Figure) -> str:
    megabytes = figure.value / 1e6
    return f"{megabytes:.1f} MB" if abs(megabytes) >= 0.05 else "0"


def _short(value: float) -> str:
    """Return a number with two or three digits that mean something."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    kept = report.read(ROOT / "bench" / "results" / report.NAME)
    markers.fill(ROOT / "docs" / "ipc.md", MARK, tables(kept.figures))
