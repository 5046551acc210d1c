"""The table of autopoll beside other queues: who is in it, who is left out, and who is ahead."""

import configparser
import xml.etree.ElementTree as xml
from pathlib import Path

import msgspec
import pytest
from reports import report

from bench import markers
from bench.cost.figures import Figure, Spread
from bench.cost.report import Failure
from bench.peers import chart, measures
from bench.peers.contenders import CONTENDERS, FLOOR, OURS
from bench.peers.run import figures
from bench.peers.table import columns, page, tables
from bench.peers.turn import Outcome

ROOT = Path(__file__).parents[3]


def outcome(scale: float, **other: float) -> Outcome:
    """A turn in which all comes to `scale`, but for what is named."""
    named = {name.replace("_", " "): value for name, value in other.items()}
    values = {name: named.get(name, scale) for name in measures.UNITS}
    return Outcome({name: Spread(each, 2 * each) for name, each in values.items()}, "it 1.0")


def found(**turns: list[Outcome]) -> list[Figure]:
    return figures({FLOOR: [outcome(1.0)], **turns})


def row(text: str, name: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_figure_is_the_median_of_the_turns_and_its_ratio_is_to_the_floor() -> None:
    made = found(autopoll=[outcome(9.0), outcome(2.0), outcome(3.0)])
    [one] = [each for each in made if each.section == measures.ONE and each.name == OURS]
    assert (one.value, one.p99, one.ratio, one.p99_ratio) == (3.0, 6.0, 3.0, 3.0)
    assert (one.floor, one.note) == (FLOOR, "it 1.0")
    assert {each.ratio for each in made if each.section in measures.NO_RATIO} == {None}


def test_without_the_floor_there_are_values_and_no_ratios() -> None:
    made = figures({"huey": [outcome(2.0)]})
    assert {(each.value, each.ratio) for each in made} == {(2.0, None)}


def test_each_contender_has_a_row_in_the_units_that_fit() -> None:
    text = tables(report(*found(autopoll=[outcome(1500.0)], huey=[outcome(2.0)])))
    first = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    assert first == ["", "---", FLOOR, OURS, "huey"]
    assert row(text, OURS)[1:5] == ["1.50 ms", "3.00 ms", "1.50 ms", "1,500 /s"]


def test_who_could_not_take_part_is_in_the_table_with_the_reason() -> None:
    reason = "redis-server is not installed (apt-get install redis-server)"
    failures = [Failure("RQ", reason), Failure("Celery", "a | b\nc")]
    text = tables(report(*found(autopoll=[outcome(2.0)]), failures=failures))
    assert row(text, "RQ")[1] == f"left out: {reason}"
    assert "| left out: a \\| b c |" in text
    assert (
        len({line.replace("\\|", "").count("|") for line in text.splitlines() if "|" in line}) == 1
    )


def test_where_a_peer_is_ahead_it_is_said_the_first_one_first_and_the_floor_is_no_peer() -> None:
    text = tables(
        report(
            *found(
                autopoll=[outcome(10.0, memory=5.0)],
                huey=[outcome(10.0, memory=4.0)],
                Celery=[outcome(10.0, memory=3.0)],
            )
        )
    )
    assert text.endswith("Where a peer is ahead of autopoll:\n\n"
                         "- memory: Celery (3.00 B), huey (4.00 B), beside 5.00 B")  # fmt: skip


@pytest.mark.parametrize(("theirs", "ahead"), [(11.0, ["huey"]), (9.0, []), (10.0, [])])
def test_of_a_rate_more_is_better(theirs, ahead) -> None:
    rate = measures.TOGETHER
    made = found(
        autopoll=[outcome(10.0)],
        huey=[Outcome({**outcome(10.0).spreads, rate: Spread(theirs, theirs)}, "")],
    )
    assert {each.title: each.ahead() for each in columns(made) if each.title == rate} == {
        rate: ahead
    }


def test_nobody_ahead_is_said_too() -> None:
    text = tables(report(*found(autopoll=[outcome(2.0)], huey=[outcome(2.0)])))
    assert text.endswith("No peer is ahead of autopoll in any of these.")


def test_without_autopoll_nobody_is_said_to_be_behind_it() -> None:
    text = tables(report(*found(huey=[outcome(2.0)])))
    assert text.endswith("autopoll was not measured.")


def test_a_machine_that_was_not_quiet_and_a_quick_look_are_said() -> None:
    made = found(autopoll=[outcome(2.0)])
    assert "not quiet" not in tables(report(*made))
    text = tables(report(*made, load=1.8, scale=0.1))
    assert "**The machine was not quiet**: its load before the run was 1.8." in text
    assert "0.1 of the full counts" in text


def test_the_page_names_versions_and_pictures() -> None:
    text = page(report(*found(autopoll=[outcome(2.0)])), [chart.NAME])
    assert f"- {OURS}: it 1.0" in text
    assert "![peers.svg](peers.svg)" in text


@pytest.mark.long  # drawing takes seconds
def test_the_picture_is_the_same_bytes_and_has_a_panel_for_each_column() -> None:
    made = found(autopoll=[outcome(2.0)], huey=[outcome(3.0)])
    drawn = chart.chart(made)
    assert drawn == chart.chart(made)
    assert xml.fromstring(drawn).tag.endswith("svg")
    assert all(f"{column.title} (".encode() in drawn for column in columns(made))


def test_a_table_between_markers_is_replaced_and_a_page_without_them_refused(tmp_path) -> None:
    at = tmp_path / "page.md"
    at.write_text("a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n")
    markers.fill(at, "x", "new\nrows")
    assert at.read_text() == "a\n<!-- x:begin -->\nnew\nrows\n<!-- x:end -->\nb\n"
    with pytest.raises(ValueError, match="y:begin"):
        markers.fill(at, "y", "")


def test_each_contender_has_settings_of_its_own_and_none_of_them_is_needed_to_develop() -> None:
    names = [each.name for each in CONTENDERS]
    assert len(set(names)) == len(names)
    apps = {path.stem for path in (ROOT / "bench" / "peers" / "apps").glob("*_app.py")}
    assert {each.app for each in CONTENDERS} == apps
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    assert "celery" in extras["peers"]
    assert not any("peers" in text for name, text in extras.items() if name != "peers")


def test_a_run_is_read_back_as_it_was_written() -> None:
    made = report(*found(autopoll=[outcome(2.0)]), failures=[Failure("RQ", "no")])
    assert msgspec.json.decode(made.encode(), type=type(made)) == made
