from pathlib import Path

import pytest

from autopoll.process import incident_log
from autopoll.process.heartbeat import Beat, ProcessState
from autopoll.process.incident_log import IncidentLog
from autopoll.process.proc_stat import boot_id


def note(path: Path, process: str = "worker", evidence: str = "seen") -> incident_log.Incident:
    incident = incident_log.record(
        path, process=process, verdict="dead", action="killed", evidence=evidence, pid=7, clock=50.0
    )
    assert incident
    return incident


def beat(**fields: object) -> Beat:
    known = {"name": "worker", "role": "worker", "pid": 8, "started": 1, "boot_id": boot_id()}
    return Beat(**{**known, **fields})  # type: ignore[arg-type]


def test_an_incident_and_its_recovery_are_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "incidents.jsonl"
    note(path)
    second = note(path, "poller")
    incident_log.recovered(path, second, 1234)
    assert [(each.process, each.recovered_ms) for each in incident_log.read(path)] == [
        ("worker", None),
        ("poller", 1234),
    ]
    assert second.at.endswith("Z")
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_file_means_no_incident(tmp_path: Path) -> None:
    assert incident_log.read(tmp_path / "incidents.jsonl") == []


def test_a_line_cut_short_by_a_full_disk_spoils_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "incidents.jsonl"
    note(path, "first")
    with path.open("ab") as file:
        file.write(b'\n{"id":"abc","verdict":"dea')
    note(path, "second")
    with path.open("ab") as file:
        file.write(b'\n\xff\x00 garbage\n[1,2]\n{"id":5}\n')
    note(path, "third")
    assert [each.process for each in incident_log.read(path)] == ["first", "second", "third"]


def test_the_file_stays_bounded_and_the_newest_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "incidents.jsonl"
    for number in range(300):
        note(path, str(number), "x" * 10_000)
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) < 2.1e6
    kept = [int(each.process) for each in incident_log.read(path)]
    assert kept == list(range(kept[0], 300))
    assert len(kept) >= 100


def test_secrets_do_not_reach_the_file(tmp_path: Path) -> None:
    path = tmp_path / "incidents.jsonl"
    note(path, evidence="said ghp_0123456789abcdefghijABCDEFGHIJ0123456789")
    assert b"ghp_0123" not in path.read_bytes()


def test_an_incident_closes_when_a_new_incarnation_is_ready(tmp_path: Path) -> None:
    log = IncidentLog(tmp_path / "incidents.jsonl")
    log.note("worker", "dead", "left to supervisord", "seen", pid=7, clock=50.0)
    for unfit in (
        beat(state=ProcessState.STARTING),
        beat(name="other", state=ProcessState.IDLE, ready_at=60.0),
        beat(pid=7, state=ProcessState.IDLE, loop_beat=51.0, ready_at=10.0),
    ):
        log.close_recovered([unfit])
        assert incident_log.read(tmp_path / "incidents.jsonl")[0].recovered_ms is None
    log.close_recovered([beat(state=ProcessState.BUSY, ready_at=51.5)])
    log.close_recovered([beat(state=ProcessState.BUSY, ready_at=51.5)])
    assert incident_log.read(tmp_path / "incidents.jsonl")[0].recovered_ms == 1500
    assert (tmp_path / "incidents.jsonl").read_bytes().count(b"recovered_ms") == 2


def test_an_incident_of_a_process_let_live_closes_at_its_next_beat(tmp_path: Path) -> None:
    log = IncidentLog(tmp_path / "incidents.jsonl")
    log.note("worker", "stopped", "continued", "seen", pid=7, clock=50.0)
    log.close_recovered([beat(pid=7, state=ProcessState.IDLE, ready_at=10.0, loop_beat=50.25)])
    assert incident_log.read(tmp_path / "incidents.jsonl")[0].recovered_ms == 250


def test_what_waits_for_the_process_itself_closes_when_it_is_over_and_not_at_a_beat(
    tmp_path: Path,
) -> None:
    path = tmp_path / "incidents.jsonl"
    log = IncidentLog(path)
    log.note("worker", "zombie-children", "told to reap", "seen", pid=7, clock=50.0)
    assert not log.is_accounted("worker", 7)  # it lives on
    log.close_recovered([beat(pid=7, state=ProcessState.IDLE, ready_at=10.0, loop_beat=51.0)])
    log.close("worker", "uninterruptible", 52.0)
    log.close("poller", "zombie-children", 52.0)
    assert incident_log.read(path)[0].recovered_ms is None
    log.close("worker", "zombie-children", 53.0)
    assert incident_log.read(path)[0].recovered_ms == 3000


def test_what_ends_a_process_closes_with_the_next_one_only(tmp_path: Path) -> None:
    path = tmp_path / "incidents.jsonl"
    log = IncidentLog(path)
    log.note("worker", "zombie-children", "drained", "seen", pid=7, clock=50.0)
    log.close("worker", "zombie-children", 51.0)
    log.close_recovered([beat(pid=7, state=ProcessState.IDLE, ready_at=10.0, loop_beat=51.0)])
    assert incident_log.read(path)[0].recovered_ms is None
    log.close_recovered([beat(pid=8, state=ProcessState.IDLE, ready_at=54.0)])
    assert incident_log.read(path)[0].recovered_ms == 4000


def test_a_death_found_after_its_successor_was_ready_took_no_time(tmp_path: Path) -> None:
    log = IncidentLog(tmp_path / "incidents.jsonl")
    log.note("worker", "dead", "left to supervisord", "seen", pid=7, clock=50.0)
    log.close_recovered([beat(state=ProcessState.IDLE, ready_at=40.0)])
    assert incident_log.read(tmp_path / "incidents.jsonl")[0].recovered_ms == 0


def test_a_new_log_knows_what_the_old_one_did(tmp_path: Path) -> None:
    path = tmp_path / "incidents.jsonl"
    old = IncidentLog(path)
    old.note("worker", "dead", "left to supervisord", "seen", pid=7, clock=50.0)
    old.note("gateway", "stopped", "continued", "seen", pid=9, clock=50.0)
    log = IncidentLog(path, incident_log.read(path))
    assert not log.is_accounted("gateway", 9)  # it lives, and its death is still to come
    assert log.is_accounted("worker", 7)
    assert not log.is_accounted("worker", 8)
    assert not log.is_accounted("poller", 7)
    log.close_recovered([beat(state=ProcessState.IDLE, ready_at=53.0)])
    assert incident_log.read(path)[0].recovered_ms == 3000


def test_a_full_disk_costs_the_incident_and_not_the_watchdog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = IncidentLog(tmp_path / "incidents.jsonl")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(incident_log, "_append", full)
    log.note("worker", "dead", "left to supervisord", "seen", pid=7)
    assert log.is_accounted("worker", 7)


def died(path: Path, pid: int, started: int = 0, verdict: str = "dead") -> object:
    return incident_log.record(
        path,
        process="worker",
        verdict=verdict,
        action="left to supervisord",
        evidence="seen",
        pid=pid,
        started=started,
    )


def test_a_death_is_written_once_however_many_see_it(tmp_path: Path) -> None:
    path = tmp_path / "incidents.jsonl"
    assert died(path, 7, 100)
    assert died(path, 7, 100) is None
    assert died(path, 7) is None  # found afterwards, by its number alone
    assert died(path, 7, 200), "the number has gone to a later one"
    assert died(path, 8, 100)
    assert died(path, 8, 100, "leak"), "another reason is another incident"
    note(path, "poller")
    incident_log.record(
        path, process="poller", verdict="dead", action="left", evidence="seen", pid=7
    )
    assert [each.process for each in incident_log.read(path)] == ["worker"] * 4 + ["poller"]


def test_an_incident_ends_once_and_the_first_end_counts(tmp_path: Path) -> None:
    path = tmp_path / "incidents.jsonl"
    first, second = note(path), note(path, "poller")
    incident_log.recovered(path, second, 5)
    incident_log.close(path, "removed", lambda _: True)
    incident_log.recovered(path, first, 7)
    assert [(each.closed, each.recovered_ms, each.ending) for each in incident_log.read(path)] == [
        ("removed", None, "removed"),
        (None, 5, "works again after 0.0 s"),
    ]


def test_what_an_operator_stops_or_a_pause_keeps_is_waited_for_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "incidents.jsonl"
    log = IncidentLog(path)
    log.note("worker", "dead", "left to supervisord", "seen", pid=7)
    log.note("worker", "quota", "paused", "seen")
    assert log.waiting() == {"worker"}
    log.leave(["poller"], "stopped by an operator")
    assert not any(each.is_over for each in incident_log.read(path))
    log.leave(["worker"], "stopped by an operator")
    assert [each.closed for each in incident_log.read(path)] == ["stopped by an operator", None]
    assert log.waiting() == set()
