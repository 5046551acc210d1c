"""The restart budget of a worker, remembered in a file."""

import re
from pathlib import Path

import msgspec
import pytest

from autopoll.process import incident_log, restart_gate
from autopoll.process.restart_gate import Gate


@pytest.fixture
def new_gate(tmp_path: Path):
    return lambda: Gate(tmp_path / "worker", tmp_path / "incidents.jsonl")


def test_four_crashes_are_free_and_the_fifth_shuts_the_gate_for_the_next_incarnation(
    new_gate,
) -> None:
    for number in range(4):
        new_gate().crashed(f"reason {number}")
        assert new_gate().wait == 0
    new_gate().crashed("the last\n straw")
    after = new_gate()
    assert 0 < after.wait <= 1
    assert re.fullmatch(r"held for 1 s after 5 crashes in \d+ s: the last straw", after.words)


def test_opening_it_forgets_the_crashes_and_a_new_budget_begins(new_gate) -> None:
    first = new_gate()
    for _ in range(7):
        first.crashed("again")
    assert first.wait > 1
    first.open()
    assert first.wait == new_gate().wait == 0
    new_gate().crashed("once more")
    assert new_gate().wait == 0


def test_opening_what_was_never_shut_leaves_no_file(new_gate, tmp_path) -> None:
    new_gate().open()
    assert not (tmp_path / "worker").exists()


def test_each_hold_is_one_incident_that_ends_when_the_worker_works_again(
    new_gate, tmp_path
) -> None:
    first = new_gate()
    for _ in range(5):
        first.crashed("no licence, api_key=sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789")
    assert not restart_gate.is_failing(tmp_path / "other")
    first.held()
    first.held()
    assert restart_gate.is_failing(tmp_path / "worker")
    new_gate().passed()
    new_gate().passed()
    [incident] = incident_log.read(tmp_path / "incidents.jsonl")
    assert (incident.process, incident.verdict, incident.action) == (
        "worker",
        "crash-loop",
        "held",
    )
    assert "no licence" in incident.evidence and incident.recovered_ms is not None
    assert "abcdefghij" not in incident.evidence + new_gate().words


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\0\xff",
        b"[" * 100_000,
        b"[]",
        b'{"boot_id":"another","budget":{"times":[1],"due":1e18},"reason":""}',
        b'{"boot_id":1,"budget":{}}',
    ],
)
def test_a_history_that_cannot_be_read_or_is_of_another_boot_is_none(
    new_gate, tmp_path, garbage
) -> None:
    (tmp_path / "worker").write_bytes(garbage)
    assert new_gate().wait == 0
    new_gate().crashed("x")
    assert new_gate().words.endswith("after 1 crashes in 1 s: x")


def test_a_history_can_hold_a_worker_for_a_minute_at_most(new_gate, tmp_path) -> None:
    new_gate().crashed("x")
    kept = msgspec.json.decode((tmp_path / "worker").read_bytes())
    kept["budget"] = {"times": [1e300] * 9, "pause": 1e300, "due": 1e300}
    (tmp_path / "worker").write_bytes(msgspec.json.encode(kept))
    spoilt = new_gate()
    assert 59 < spoilt.wait <= 60
    spoilt.crashed("y")
    assert 0 < spoilt.wait <= 60


def test_a_history_that_cannot_be_written_holds_in_this_process_all_the_same(tmp_path) -> None:
    lost = Gate(tmp_path / "gone" / "worker", tmp_path / "gone" / "incidents.jsonl")
    for _ in range(5):
        lost.crashed("full disk")
    lost.held()
    assert lost.wait > 0
    lost.passed()
    lost.open()
    assert lost.wait == 0
