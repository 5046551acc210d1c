"""The tables of autopoll on PostgreSQL: who is in them, who is left out, and who is ahead."""

from reports import report

from bench.cost.figures import Figure
from bench.cost.report import Failure
from bench.peers import measures
from bench.postgres import claims
from bench.postgres.entrants import ENTRANTS, OURS
from bench.postgres.run import MEASURES
from bench.postgres.table import page, tables


def found(name: str, value: float) -> list[Figure]:
    """Figures of an entrant of which all come to one value."""
    units = measures.UNITS
    one = Figure(
        section=measures.ONE, name=name, value=value, p99=2 * value, unit="us", note="it 1.0"
    )
    others = (
        Figure(section=each, name=name, value=value, unit=units[each]) for each in MEASURES[1:]
    )
    return [one, *others]


def claimed(store: str) -> list[Figure]:
    return [
        Figure(section=part, name=store, value=1500.0, p99=3000.0, unit="us", note="3 statements")
        for part in (claims.CLAIM, claims.SETTLE)
    ]


def rows(text: str) -> dict[str, list[str]]:
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {name.strip(): [cell.strip() for cell in cells] for name, *cells in lines}


def test_each_that_took_part_has_a_row_and_who_could_not_has_the_reason() -> None:
    failure = Failure("pgmq", "pgmq is not installed (make bench-postgres)")
    text = tables(report(*found(OURS, 1500.0), *claimed("an empty store"), failures=[failure]))
    table = rows(text)
    assert table[OURS] == ["1.50 ms", "3.00 ms", "1,500 /s", "1,500 /s"]
    assert table["pgmq"][0] == "left out: pgmq is not installed (make bench-postgres)"
    assert table["an empty store"] == ["1.50 ms", "3.00 ms", "3 statements"] * 2
    assert "No other queue is ahead" in text


def test_a_queue_that_is_ahead_is_named_and_other_homes_are_none() -> None:
    slow, fast = found("procrastinate", 1000.0), found("autopoll, 2 homes", 1.0)
    text = tables(report(*found(OURS, 2000.0), *slow, *fast))
    ahead = [line for line in text.splitlines() if line.startswith("- ")]
    assert ahead == ["- one outstanding: procrastinate (1.00 ms), beside 2.00 ms"]


def test_the_page_says_of_which_version_each_was() -> None:
    assert "- autopoll, 1 home: it 1.0" in page(report(*found(OURS, 1.0)))


def test_the_queues_that_are_measured_beside_are_those_of_the_tables() -> None:
    assert {each.name for each in ENTRANTS} >= {OURS, "procrastinate", "pgmq"}
