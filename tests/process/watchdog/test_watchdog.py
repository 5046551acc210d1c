"""Faults of real processes, before a real watchdog; all faults of one ward run side by side."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from place import until
from ward import WATCHDOG, Ward, is_stopped, stop

from autopoll.process.heartbeat import Beat, State
from autopoll.process.vitals import boot_id, vitals

pytestmark = pytest.mark.early

BUSY = ("busy-sleeping", "busy-spinning", "busy-holding")
SICK = {
    "overdue": "hung-request",
    "overdue-deadlocked": "hung-request",
    "deadlocked": "hung-idle",
    "frozen": "frozen",
}


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with Ward(tmp_path_factory.mktemp("ward")) as ward:
        ward.watch()
        ward.admit(**{name: name for name in (*BUSY, *SICK)})
        yield ward


def test_a_killed_process_is_an_incident_that_names_the_signal_and_the_request(
    ward: Ward,
) -> None:
    [patient] = ward.admit(killed="turn-busy")
    died = time.monotonic()
    patient.kill()
    patient.wait()
    incident = ward.incident("killed", "dead")
    assert 0 <= incident.clock - died < 0.5
    assert "SIGKILL" in incident.evidence
    assert "request 17" in incident.evidence


def test_a_process_that_exits_with_an_error_is_an_incident_that_names_the_status(
    ward: Ward,
) -> None:
    [patient] = ward.admit(crashed="crash")
    ward.spell("crashed").touch()
    patient.wait()
    assert "exit status 3" in ward.incident("crashed", "dead").evidence


def test_a_death_is_one_incident_and_closes_when_the_next_incarnation_is_ready(ward: Ward) -> None:
    [patient] = ward.admit(reborn="turn")
    patient.kill()  # and left a zombie, as by a supervisord that stands still
    incident = ward.incident("reborn", "dead")
    ward.turns("watchdog", 2)
    ward.admit(reborn="turn")
    until(lambda: ward.incidents("reborn")[0].recovered_ms)
    beat = ward.beat("reborn")
    assert beat and beat.ready_at
    took = round(1000 * (beat.ready_at - incident.clock))
    assert [each.recovered_ms for each in ward.incidents("reborn")] == [took]


def test_who_ends_of_its_own_will_is_no_incident(ward: Ward) -> None:
    leaving, witness = ward.admit(leaving="turn", witness="turn")
    leaving.terminate()
    assert leaving.wait() == 0
    witness.kill()
    ward.incident("witness", "dead")
    assert ward.incidents("leaving") == []


def test_a_stopped_process_goes_on_within_four_seconds_and_is_replaced_if_stopped_again(
    ward: Ward,
) -> None:
    names = ("stopped", "stopped-busy")
    patients = ward.admit(**{"stopped": "turn", "stopped-busy": "turn-busy"})
    for patient in patients:
        stop(patient)
    for patient in patients:
        until(lambda patient=patient: not is_stopped(patient.pid), 4.0)
    for name in names:
        assert ward.incident(name, "stopped").action == "continued"
        until(lambda name=name: ward.incidents(name)[0].recovered_ms is not None)
    for patient in patients:
        stop(patient)
    for name, patient in zip(names, patients, strict=True):
        until(lambda patient=patient: patient.poll() is not None)
        assert [each.action for each in ward.incidents(name)] == ["continued", "killed"]


@pytest.mark.parametrize("behaviour", SICK)
def test_who_hangs_is_killed_with_evidence(ward: Ward, behaviour: str) -> None:
    incident = ward.incident(behaviour, SICK[behaviour])
    assert incident.action == "killed"
    until(lambda: not ward.lives(behaviour))
    facts = json.loads(ward.evidence(behaviour, "facts.json"))
    assert facts["beat"] and facts["rss_bytes"] > 0
    if behaviour != "overdue":  # its loop turns, and is found in no place of its own
        line = "hold_the_interpreter" if behaviour == "frozen" else "wait_for_ever_in_a_deadlock"
        assert f"in {line}" in ward.evidence(behaviour, "stacks.txt")


def test_an_overdue_request_is_named_in_the_evidence(ward: Ward) -> None:
    evidence = ward.incident("overdue", "hung-request").evidence
    assert "request 17" in evidence
    assert "overdue by" in evidence


def test_a_kill_is_one_incident_and_not_a_death_besides(ward: Ward) -> None:
    for behaviour in SICK:
        ward.incident(behaviour, SICK[behaviour])
        until(lambda behaviour=behaviour: not ward.lives(behaviour))
    ward.turns("watchdog", 2)
    for behaviour in SICK:
        assert len(ward.incidents(behaviour)) == 1


def test_the_number_of_a_dead_process_that_went_to_a_stranger_is_not_signalled(ward: Ward) -> None:
    stranger = ward.start("-c", "import time; time.sleep(3600)")
    reading = until(lambda: vitals(stranger.pid))
    ward.forge(
        Beat(
            name="forged",
            role="worker",
            pid=stranger.pid,
            started=reading.started - 1,
            boot_id=boot_id(),
            state=State.BUSY,
            request_id=1,
            request_start=1.0,
            request_deadline=2.0,
        )
    )
    assert "found dead" in ward.incident("forged", "dead").evidence
    ward.turns("watchdog", 4)
    assert stranger.poll() is None


def test_who_is_busy_within_its_deadline_is_never_killed_however_it_looks(ward: Ward) -> None:
    silent = [ward.beat(name) for name in BUSY]
    until(lambda: time.monotonic() - max(b.loop_beat for b in silent if b) > 10)
    ward.turns("watchdog", 2)
    assert [ward.lives(name) for name in BUSY] == [True] * 3
    assert [ward.incidents(name) for name in BUSY] == [[]] * 3


def test_a_watchdog_that_was_itself_stopped_kills_nobody_on_waking(tmp_path: Path) -> None:
    with Ward(tmp_path) as ward:
        watchdog = ward.watch()
        [patient] = ward.admit(worker="turn")
        stop(watchdog)
        ward.spell("worker").touch()
        asleep = time.monotonic()
        until(lambda: time.monotonic() - asleep > 20, 30)
        watchdog.send_signal(signal.SIGCONT)
        # The worker is as slow to wake: it still looks 20 s old, and older at every turn.
        ward.turns("watchdog", 3)
        ward.spell("worker").unlink()
        ward.turns("watchdog", 3)
        assert patient.poll() is None
        assert ward.incidents("worker") == []


def test_a_new_watchdog_misses_no_death_and_records_none_twice(tmp_path: Path) -> None:
    with Ward(tmp_path) as ward:
        first = ward.watch()
        seen, unseen, back = ward.admit(seen="turn", unseen="turn", back="turn")
        seen.kill()
        ward.incident("seen", "dead")
        first.kill()
        first.wait()
        for process in (unseen, back):
            process.kill()
            process.wait()
        ward.patient("back", "turn")
        ward.watch()
        ward.incident("unseen", "dead")
        ward.incident("back", "dead")
        ward.incident("watchdog", "dead")
        until(lambda: ward.incidents("back")[0].recovered_ms is not None)
        ward.turns("watchdog", 3)
        for name in ("seen", "unseen", "back", "watchdog"):
            assert [each.verdict for each in ward.incidents(name)] == ["dead"], name


def test_what_a_killed_worker_leaves_behind_is_ended(tmp_path: Path) -> None:
    with Ward(tmp_path) as ward:
        ward.watch()
        child = ward.start("-c", "import time; time.sleep(3600)", env=ward.marks("overdue"))
        other = ward.start("-c", "import time; time.sleep(3600)", env=ward.marks("healthy"))
        ward.patient("overdue", "overdue")
        ward.incident("overdue", "hung-request")
        until(lambda: child.poll() is not None)
        assert other.poll() is None


def test_the_watchdog_ends_when_supervisord_does(tmp_path: Path) -> None:
    with Ward(tmp_path) as ward:
        watchdog = ward.watch()
        assert watchdog.stdin
        watchdog.stdin.write(b"typed by an operator\n")
        watchdog.stdin.flush()
        ward.turns("watchdog", 2)
        watchdog.stdin.close()
        assert watchdog.wait(5) == 0
        beat = ward.beat("watchdog")
        assert beat and beat.state is State.STOPPED


def test_a_second_watchdog_of_one_home_is_refused(tmp_path: Path) -> None:
    with Ward(tmp_path) as ward:
        first = ward.watch()
        second = ward.start(WATCHDOG, str(ward.home.root))
        assert second.wait(10) != 0
        assert first.poll() is None
