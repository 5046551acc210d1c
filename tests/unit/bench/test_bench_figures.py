"""What becomes of figures: words, pages, pictures, files, and a comparison with earlier ones."""

import json
import math
import os
import xml.etree.ElementTree as xml

import msgspec
import pytest
from reports import MACHINE, figure, report

from autopoll.errors import UsageError
from bench.cost import plot, results, table
from bench.cost.comparison import OtherMachine, compare, loss, row
from bench.cost.figures import Point
from bench.cost.report import Failure, read

# --- words


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.4, "us", "400 ns"),
        (87.25, "us", "87.2 µs"),
        (1234.0, "us", "1.23 ms"),
        (2500.0, "ms", "2.50 s"),
        (90.0, "s", "90.0 s"),
        (0.0, "us", "0 ns"),
        (700.0, "bytes", "700 B"),
        (38.5e6, "bytes", "38.5 MB"),
        (-2048.0, "bytes", "-2.05 kB"),
        (210.0, "MB_per_s", "210 MB/s"),
        (12345.6, "per_s", "12,346 /s"),
        (0.31, "percent", "0.310 %"),
        (17.0, "count", "17.0"),
        (3.0, "furlongs", "3.00 furlongs"),
    ],
)
def test_a_value_is_shown_in_the_unit_that_fits_it(value, unit, words) -> None:
    assert table.shown(value, unit) == words


def test_a_figure_is_shown_with_its_ratios_and_what_they_ought_to_be() -> None:
    met = figure(p99=1800.0, ratio=1.25, p99_ratio=1.9, target=1.5, p99_target=2.0)
    assert table.cells(met) == (
        "one", "900 µs", "1.80 ms", "1.25, p99 1.90", "≤ 1.50, p99 ≤ 2.00", "yes",
    )  # fmt: skip
    slow_tail = figure(p99=1800.0, ratio=1.25, p99_ratio=2.1, target=1.5, p99_target=2.0)
    assert table.cells(slow_tail)[-1] == "no"
    rate = figure(value=900.0, unit="per_s", ratio=0.4, target=0.5, at_least=True)
    assert table.cells(rate) == ("one", "900 /s", "", "0.400", "≥ 0.500", "no")
    assert table.cells(figure(value=0.3, unit="percent", target=0.5))[-2:] == ("≤ 0.500 %", "yes")
    assert table.cells(figure())[2:] == ("", "", "", "")


def test_the_page_has_a_table_for_each_section_and_names_what_was_not_measured() -> None:
    found = report(
        figure("a|b", note="two\nlines"),
        figure("c", section="floor"),
        figure("d"),
        failures=[Failure("ipc", "it broke")],
    )
    page = table.markdown(found, ["ratios.svg"])
    assert page.index("## product") < page.index("| d |") < page.index("## floor")
    assert "| a\\|b | 900 µs |  |  |  |  | two lines |" in page
    assert "## Not measured\n\n- ipc: it broke" in page
    assert "![ratios](ratios.svg)" in page
    assert "2025-01-02 03:04 UTC" in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {8, 7}


# --- pictures


def curved() -> list:
    at = [(0.0, 5.0), (1e3, 6.0), (1e6, 9.0)]
    return [
        figure(f"claim with {x:g}", section="growth", value=y, point=Point("claim", x, "messages"))
        for x, y in at
    ]


def test_pictures_are_the_same_bytes_whenever_they_are_drawn_and_hold_no_date() -> None:
    figures = [figure(ratio=1.3, target=1.5), figure("two", ratio=0.4, target=0.5, at_least=True)]
    drawn = plot.pictures([*figures, *curved()])
    assert set(drawn) == {"ratios.svg", "growth.svg"}
    assert drawn == plot.pictures([*figures, *curved()])
    for content in drawn.values():
        assert xml.fromstring(content).tag.endswith("svg")
        assert b"dc:date" not in content
        assert b"atplotlib v" not in content
    assert b"product: two" in drawn["ratios.svg"]
    assert plot.MISSED.encode() in drawn["ratios.svg"]
    assert plot.MET.encode() in drawn["ratios.svg"]
    assert b">messages<" in drawn["growth.svg"]


def test_what_has_no_ratio_and_no_curve_makes_no_picture() -> None:
    assert plot.pictures([figure()]) == {}


def test_results_replace_those_of_an_earlier_run_and_its_pictures(tmp_path) -> None:
    first = results.write(report(figure(ratio=1.3), *curved()), tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == set(first)
    assert set(first) == {"figures.json", "figures.md", "ratios.svg", "growth.svg"}
    results.write(report(figure(ratio=1.3)), tmp_path)
    assert not (tmp_path / "growth.svg").exists()
    assert (tmp_path / "ratios.svg").exists()


def test_without_matplotlib_all_but_the_pictures_is_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(plot, "is_possible", lambda: False)
    written = results.write(report(figure(ratio=1.3)), tmp_path)
    assert written == ["figures.json", "figures.md"]


# --- files


def test_a_report_is_read_back_as_it_was_written(tmp_path) -> None:
    found = report(figure(ratio=1.3, point=Point("a", 1.0, "b")), failures=[Failure("ipc", "no")])
    results.write(found, tmp_path)
    assert read(tmp_path / "figures.json") == found
    again = json.loads((tmp_path / "figures.json").read_text())
    assert again["started"] == "2025-01-02T03:04:00Z"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"not JSON", "holds no figures"),
        (b"\xff\xfe\x00", "holds no figures"),
        (b"[]", "holds no figures"),
        (b"{}", "`format`"),
        (b'{"format": 1}', "version"),
        (b'{"format": "1"}', "holds no figures"),
        (b'{"format": 2, "all": "different"}', "newer autopoll"),
        (report(figure()).encode().replace(b"900.0", b'"many"'), "value"),
        (report(figure()).encode()[:-20], "holds no figures"),
        (b"[" * 100_000, "holds no figures"),
    ],
    ids=range(12),
)
def test_what_holds_no_figures_is_refused_with_the_reason(tmp_path, content, words) -> None:
    path = tmp_path / "figures.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        read(path)


def test_what_is_no_file_is_refused(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("gone", "No such file"), ("pipe", "no regular"), (".", "folder")):
        with pytest.raises(UsageError, match=words):
            read(tmp_path / name)


# --- comparison


@pytest.mark.parametrize(
    ("was", "now", "more_is_better", "lost"),
    [
        (1.0, 1.25, False, 0.25),
        (2.0, 1.0, False, -0.5),
        (0.8, 0.6, True, 0.25),
        (0.5, 1.0, True, -1.0),
        (0.0, 0.0, False, 0.0),
        (0.0, 0.1, False, math.inf),
        (0.0, 0.1, True, -math.inf),
    ],
)
def test_a_loss_is_the_share_that_was_lost(was, now, more_is_better, lost) -> None:
    assert loss(was, now, more_is_better) == pytest.approx(lost)


def test_a_quarter_is_allowed_and_more_is_a_loss() -> None:
    before = report(figure("cost", ratio=1.0), figure("rate", unit="per_s", ratio=0.8))
    fine = report(figure("cost", ratio=1.25), figure("rate", unit="per_s", ratio=0.61))
    assert all(change.is_good for change in compare(before, fine))
    worse = report(figure("cost", ratio=1.26), figure("rate", unit="per_s", ratio=0.59))
    changes = compare(before, worse)
    assert [change.verdict for change in changes] == ["worse", "worse"]
    assert row(changes[0]) == ("product", "cost", "1.00", "1.26", "+26%", "worse")
    stream = [report(figure(unit="MB_per_s", ratio=ratio)) for ratio in (1.0, 0.7)]
    assert [change.verdict for change in compare(*stream)] == ["worse"]
    gained = report(figure("cost", ratio=0.5), figure("rate", unit="per_s", ratio=1.6))
    assert [change.loss for change in compare(before, gained)] == [-0.5, -1.0]


def test_times_are_not_compared() -> None:
    before = report(figure(value=100.0, p99=200.0), figure("two", value=10.0, ratio=1.0))
    now = report(figure(value=900.0, p99=999.0), figure("two", value=90.0, ratio=1.0))
    assert [change.name for change in compare(before, now) if change.is_good] == ["two"]


def test_a_figure_that_is_missing_is_named_and_one_that_vanished_does_not_pass() -> None:
    before = report(figure("old", ratio=1.0), figure("old too", section="idle", ratio=1.0))
    now = report(figure("new", ratio=1.0))
    told = {change.name: (change.verdict, change.is_good) for change in compare(before, now)}
    assert told == {
        "new": ("new", True),
        "old": ("missing", False),
        "old too": ("missing", False),
    }
    partly = [change.name for change in compare(before, now, only=["chain"])]
    assert partly == ["new", "old"]


def test_another_machine_is_refused_with_each_difference() -> None:
    other = msgspec.structs.replace(MACHINE, cores=64, disk="tmpfs")
    with pytest.raises(OtherMachine) as refused:
        compare(report(figure()), report(figure(), machine=other))
    assert refused.value.exit_code == 2
    assert "cores: 2 and 64" in refused.value.what
    assert "disk: ext4 and tmpfs" in refused.value.what
    assert "processor" not in refused.value.what
    assert "make bench" in refused.value.mend
