"""What `autopoll faults` prints, and when it is content, without any process."""

import json

import pytest

from autopoll.cli import main
from autopoll.ops.selftest import fault_cases
from autopoll.ops.selftest.fault_run import FaultOutcome

GOOD = FaultOutcome(fault="worker stopped", noticed_ms=2277, answered_ms=12, lost=0, twice=0)
OTHER = FaultOutcome(fault="flood", noticed_ms=1, answered_ms=1_234_567, lost=0, twice=0)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command over outcomes that are given."""

    def run(outcomes: list[FaultOutcome], *args: str) -> tuple[int, str, str]:
        def fake(report, show) -> list[FaultOutcome]:
            for outcome in outcomes:
                show(outcome)
            return outcomes

        monkeypatch.setattr(fault_cases, "run_all", fake)
        code = main(["faults", *args])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_the_table_has_a_line_for_each_fault(run) -> None:
    code, out, err = run([GOOD, OTHER])
    assert code == 0
    heading, *lines = out.splitlines()
    assert heading.split("  ") != [heading]
    assert [word.strip() for word in heading.split("  ") if word] == [
        "fault", "noticed after", "answered after", "lost", "twice",
    ]  # fmt: skip
    assert lines[0].split() == ["worker", "stopped", "2,277", "ms", "12", "ms", "0", "0"]
    assert lines[1].split() == ["flood", "1", "ms", "1,234,567", "ms", "0", "0"]
    assert err == ""


def test_json_is_one_object_a_line_under_the_promised_names(run) -> None:
    code, out, _ = run([GOOD, OTHER], "--json")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {"fault": "worker stopped", "noticed_ms": 2277, "answered_ms": 12, "lost": 0, "twice": 0},
        {"fault": "flood", "noticed_ms": 1, "answered_ms": 1234567, "lost": 0, "twice": 0},
    ]


@pytest.mark.parametrize(
    "flaw",
    [{"lost": 1}, {"twice": 1}, {"noticed_ms": None}],
    ids=lambda flaw: next(iter(flaw)),
)
def test_it_fails_when_a_question_was_lost_or_doubled_or_a_fault_not_noticed(run, flaw) -> None:
    fields = {"fault": "x", "noticed_ms": 1, "answered_ms": 1, "lost": 0, "twice": 0}
    code, out, err = run([GOOD, FaultOutcome(**{**fields, **flaw})])
    assert code == 1
    assert "not as promised" in err
    assert ("never" in out) == ("noticed_ms" in flaw)


def test_what_never_happened_is_null_in_json(run) -> None:
    bad = FaultOutcome(fault="x", noticed_ms=None, answered_ms=None, lost=1, twice=0)
    code, out, _ = run([bad], "--json")
    assert code == 1
    assert json.loads(out)["noticed_ms"] is None
    assert json.loads(out)["answered_ms"] is None
