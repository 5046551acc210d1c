"""Figures as people read them: values in fitting units, and a Markdown table for each section."""

from collections.abc import Sequence

from bench.cost.figures import Figure
from bench.cost.report import Report

HEADINGS = ("figure", "value", "p99", "ratio to the floor", "target", "met")
# unit -> (factor, name) from the smallest; each is used up to the next.
_SCALES = {
    "time": ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s")),
    "bytes": ((1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB")),
}
_TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_SUFFIXES = {"per_s": "/s", "MB_per_s": "MB/s", "percent": "%", "count": ""}


def shown(value: float, unit: str) -> str:
    """Return a value with three significant digits in the unit that fits it."""
    if unit in _TIMES:
        return _scaled(value * _TIMES[unit], "time")
    if unit == "bytes":
        return _scaled(value, "bytes")
    return f"{digits(value)} {_SUFFIXES.get(unit, unit)}".rstrip()


def cells(figure: Figure) -> tuple[str, ...]:
    """Return a figure under HEADINGS."""
    return (
        figure.name,
        shown(figure.value, figure.unit),
        "" if figure.p99 is None else shown(figure.p99, figure.unit),
        _ratios(figure),
        _target(figure),
        {None: "", True: "yes", False: "no"}[figure.met],
    )


def sections(figures: Sequence[Figure]) -> list[tuple[str, list[Figure]]]:
    """Return the figures by section, in the order in which sections first came."""
    found: dict[str, list[Figure]] = {}
    for figure in figures:
        found.setdefault(figure.section, []).append(figure)
    return list(found.items())


def markdown(report: Report, plots: Sequence[str]) -> str:
    """Return the whole run as a page; `plots` are the names of pictures beside it."""
    machine = report.machine
    parts = [
        "# What a question costs beyond the model",
        f"autopoll {report.version}, {report.started:%Y-%m-%d %H:%M} UTC, {report.seconds:.0f} s, "
        f"scale {report.scale:g}, load before it {report.load:g}.",
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gb} GB, Linux "
        f"{machine.kernel}, {machine.disk}, {machine.python}, SQLite {machine.sqlite}.",
    ]
    for name, figures in sections(report.figures):
        parts += [f"## {name}", _table(figures)]
    if report.failures:
        lines = [f"- {_escaped(each.section)}: {_escaped(each.reason)}" for each in report.failures]
        parts += ["## Not measured", "\n".join(lines)]
    parts += [f"![{name.removesuffix('.svg')}]({name})" for name in plots]
    return "\n\n".join(parts) + "\n"


def _table(figures: Sequence[Figure]) -> str:
    noted = any(figure.note for figure in figures)
    rows: list[tuple[str, ...]] = [(*HEADINGS, "note") if noted else HEADINGS]
    rows.append(("---", *["---:"] * 4, "---", *["---"] * noted))
    rows += [(*cells(each), each.note) if noted else cells(each) for each in figures]
    return "\n".join(f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows)


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _ratios(figure: Figure) -> str:
    if figure.ratio is None:
        return ""
    tail = "" if figure.p99_ratio is None else f", p99 {digits(figure.p99_ratio)}"
    return f"{digits(figure.ratio)}{tail}"


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    bound = "≥" if figure.at_least else "≤"
    if figure.ratio is None:
        return f"{bound} {shown(figure.target, figure.unit)}"
    tail = "" if figure.p99_target is None else f", p99 ≤ {digits(figure.p99_target)}"
    return f"{bound} {digits(figure.target)}{tail}"


def _scaled(value: float, kind: str) -> str:
    scales = _SCALES[kind]
    fitting = [each for each in scales if abs(value) >= each[0]] or [scales[0]]
    factor, name = fitting[-1]
    return f"{digits(value / factor)} {name}"


def digits(value: float) -> str:
    """Return a number with three significant digits, or all before the point."""
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.2g}"
    places = 2 if abs(value) < 10 else 1
    return f"{value:.{places if abs(value) >= 1 else 3}f}"
