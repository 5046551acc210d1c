"""The comparison with earlier figures: what is a loss, what is missing, what cannot be compared."""

import math

import msgspec
import pytest
from reports import MACHINE, figure, report

from autopoll.errors import UsageError
from bench.cost import plot, results
from bench.cost.comparison import OtherMachine, compare, loss, row
from bench.cost.figures import Point
from bench.cost.report import Failure, read


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


def test_a_report_is_read_back_as_it_was_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(plot, "is_possible", lambda: False)  # drawing takes seconds
    found = report(figure(ratio=1.3, point=Point("a", 1.0, "b")), failures=[Failure("ipc", "no")])
    results.write(found, tmp_path)
    assert read(tmp_path / "figures.json") == found
    assert "## Not measured\n\n- ipc: no" in (tmp_path / "figures.md").read_text()


@pytest.mark.parametrize("content", [b"", b"not JSON", b"{}", b'{"format": 2}'], ids=range(4))
def test_what_holds_no_figures_is_refused(tmp_path, content) -> None:
    path = tmp_path / "figures.json"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        read(path)
