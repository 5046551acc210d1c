"""The figures as a page: a row for each contender, and who is ahead of autopoll in what."""

from collections.abc import Iterator, Sequence

import msgspec

from bench.cost.figures import Figure
from bench.cost.report import Report
from bench.cost.table import shown
from bench.peers import measures
from bench.peers.contenders import CONTENDERS, FLOOR, OURS

BUSY = 0.5  # the load before a run from which on the page tells of it


class Column(msgspec.Struct, frozen=True):
    """One thing that was measured: of whom (name -> value), and in which unit."""

    title: str
    unit: str
    values: dict[str, float]

    def ahead(self) -> list[str]:
        """Return the peers that are ahead of autopoll, the first one first."""
        sign = -1 if self.unit == "per_s" else 1
        ours = self.values.get(OURS)
        peers = sorted((sign * value, name) for name, value in self.values.items() if name != FLOOR)
        return [name for value, name in peers if ours is not None and value < sign * ours]

    def cell(self, name: str) -> str:
        """Return the value of a contender as people read it."""
        return shown(self.values[name], self.unit)


def columns(figures: Sequence[Figure]) -> Iterator[Column]:
    """Yield what was measured, in the order of the table."""
    for measure, unit in measures.UNITS.items():
        found = [figure for figure in figures if figure.section == measure]
        tails = {figure.name: figure.p99 for figure in found if figure.p99 is not None}
        yield Column(
            f"{measure}, p50" if tails else measure, unit, {each.name: each.value for each in found}
        )
        if tails:
            yield Column(f"{measure}, p99", unit, tails)


def tables(report: Report) -> str:
    """Return the table in Markdown, what it was measured on, and where a peer is ahead."""
    measured = list(columns(report.figures))
    rows = [("", *(column.title for column in measured)), ("---", *["---:"] * len(measured))]
    table = [f"| {' | '.join(row)} |" for row in (*rows, *_rows(report, measured))]
    return "\n\n".join(["\n".join(table), circumstances(report), _ahead(measured)])


def page(report: Report, plots: Sequence[str]) -> str:
    """Return the whole run as a page of its own; `plots` are the names of pictures beside it."""
    versions = [f"- {each.name}: {each.note}" for each in report.figures if each.note]
    parts = ["# autopoll beside other queues", tables(report), "\n".join(versions)]
    return "\n\n".join([*parts, *(f"![{name}]({name})" for name in plots)]) + "\n"


def _rows(report: Report, measured: Sequence[Column]) -> Iterator[tuple[str, ...]]:
    reasons = {failure.section: failure.reason for failure in report.failures}
    for name in (contender.name for contender in CONTENDERS):
        if name in reasons:
            reason = " ".join(reasons[name].split()).replace("|", "\\|")
            yield (name, f"left out: {reason}", *[""] * (len(measured) - 1))
        elif name in measured[0].values:
            yield (name, *(column.cell(name) for column in measured))


def circumstances(report: Report) -> str:
    """Return on what a run was measured, and what speaks against it."""
    machine = report.machine
    parts = [
        f"Measured {report.started:%Y-%m-%d %H:%M} UTC in {report.seconds:.0f} s on "
        f"{machine.processor}, {machine.cores} cores, Linux {machine.kernel}, {machine.disk}, "
        f"{machine.python}."
    ]
    if report.load > BUSY:
        parts.append(f"**The machine was not quiet**: its load before the run was {report.load:g}.")
    if report.scale != 1:
        parts.append(f"A quick look: {report.scale:g} of the full counts.")
    return " ".join(parts)


def _ahead(measured: Sequence[Column]) -> str:
    lines = [
        f"- {column.title}: {', '.join(f'{name} ({column.cell(name)})' for name in ahead)}, "
        f"beside {column.cell(OURS)}"
        for column in measured
        if (ahead := column.ahead())
    ]
    if not any(OURS in column.values for column in measured):
        return "autopoll was not measured."
    if not lines:
        return "No peer is ahead of autopoll in any of these."
    return "\n".join(["Where a peer is ahead of autopoll:", "", *lines])
