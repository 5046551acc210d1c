"""The figures as tables: a row for each that took part, and one for each store."""

import math
from collections.abc import Iterator, Sequence

from bench.cost.figures import Figure
from bench.cost.report import Report
from bench.cost.table import shown
from bench.peers import measures
from bench.peers.table import circumstances
from bench.postgres import claims
from bench.postgres.entrants import ENTRANTS, OURS
from bench.postgres.run import MEASURES


def tables(report: Report) -> str:
    """Return the tables in Markdown, what they were measured on, and who is ahead of autopoll."""
    return "\n\n".join(
        [_beside(report), _claims(report.figures), circumstances(report), _ahead(report.figures)]
    )


def page(report: Report) -> str:
    """Return the whole run as a page of its own."""
    versions = [f"- {each.name}: {each.note}" for each in report.figures if each.p99 and each.note]
    title = "# autopoll on PostgreSQL beside other queues"
    return "\n\n".join([title, tables(report), "\n".join(versions)]) + "\n"


def scaling(report: Report) -> str:
    """Return what one server gives, with what follows for a million conversations."""
    found = {(each.section, each.name): each for each in report.figures}
    rate = found[measures.SINGLY, OURS].value
    stores = [each for each in report.figures if each.section == claims.CLAIM]
    costs = "; ".join(f"{each.name}: {shown(each.value, each.unit)}" for each in stores)
    half, hourly = rate / 2, _CONVERSATIONS / 3600
    return "\n".join(
        [
            f"- One home takes {shown(rate, 'per_s')} that come one by one, each in a commit of its"
            " own, on a machine that runs the server, the home and the asker.",
            f"- A claim takes, in {costs}.",
            f"- At half that load: {half * 86400:,.0f} questions a day.",
            f"- {_CONVERSATIONS:,} conversations that each ask once an hour make"
            f" {shown(hourly, 'per_s')}. At half load that is"
            f" {math.ceil(hourly / half)} such machines.",
            "",
            circumstances(report),
        ]
    )


def _beside(report: Report) -> str:
    first, *others = MEASURES
    rows = [("", f"{first}, p50", "p99", *others), ("---", *["---:"] * (len(others) + 2))]
    found = {(each.section, each.name): each for each in report.figures}
    reasons = {failure.section: failure.reason for failure in report.failures}
    for name in (entrant.name for entrant in ENTRANTS):
        if name in reasons:
            reason = " ".join(reasons[name].split()).replace("|", "\\|")
            rows.append((name, f"left out: {reason}", *[""] * (len(others) + 1)))
        elif (one := found.get((first, name))) and one.p99 is not None:
            rest = (found[other, name] for other in others)
            cells = [shown(each.value, each.unit) for each in (one, *rest)]
            rows.append((name, cells[0], shown(one.p99, one.unit), *cells[1:]))
    return _markdown(rows)


def _claims(figures: Sequence[Figure]) -> str:
    rows = [
        ("", *(f"{name}, {what}" for name in _PARTS for what in ("p50", "p99", "touches"))),
        ("---", *["---:"] * (3 * len(_PARTS))),
    ]
    stores = [each.name for each in figures if each.section == claims.CLAIM]
    found = {(each.section, each.name): each for each in figures}
    for store in stores:
        cells: list[str] = []
        for part in _PARTS:
            figure = found[part, store]
            cells += [
                shown(figure.value, figure.unit),
                shown(figure.p99 or 0.0, figure.unit),
                figure.note,
            ]
        rows.append((store, *cells))
    return _markdown(rows)


def _ahead(figures: Sequence[Figure]) -> str:
    lines = list(_each_ahead(figures))
    if not lines:
        return "No other queue is ahead of autopoll, with one home, in any of these."
    return "\n".join(["Where another queue is ahead of autopoll with one home:", "", *lines])


def _each_ahead(figures: Sequence[Figure]) -> Iterator[str]:
    for measure in MEASURES:
        found = {each.name: each for each in figures if each.section == measure}
        ours = found.get(OURS)
        peers = [each for name, each in found.items() if name in _PEERS]
        for one in peers:
            sign = -1 if one.unit == "per_s" else 1
            if ours and sign * one.value < sign * ours.value:
                values = [shown(each.value, each.unit) for each in (one, ours)]
                yield f"- {measure}: {one.name} ({values[0]}), beside {values[1]}"


def _markdown(rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


_CONVERSATIONS = 1_000_000
_PARTS = (claims.CLAIM, claims.SETTLE)
_PEERS = ("procrastinate", "pgmq")
