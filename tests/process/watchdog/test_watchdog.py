"""Faults of real processes, before a real watchdog; all faults of one watched run side by side."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from place import until
from watched_home import WATCHDOG, WatchedHome, is_stopped, stop

from autopoll.process.heartbeat import Beat, ProcessState
from autopoll.process.proc_stat import boot_id, read_stat

pytestmark = pytest.mark.early

BUSY = ("busy-sleeping", "busy-spinning", "busy-holding")
HUNG = {
    "overdue": "hung-request",
    "overdue-deadlocked": "hung-request",
    "deadlocked": "hung-idle",
    "frozen": "frozen",
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHome]:
    with WatchedHome(tmp_path_factory.mktemp("watched")) as watched:
        watched.watch()
        watched.start_watched(**{name: name for name in (*BUSY, *HUNG)})
        yield watched


def test_a_killed_process_is_an_incident_that_names_the_signal_and_the_request(
    watched: WatchedHome,
) -> None:
    [dummy] = watched.start_watched(killed="turn-busy")
    died = time.monotonic()
    dummy.kill()
    dummy.wait()
    incident = watched.incident("killed", "dead")
    assert 0 <= incident.clock - died < 5
    assert "SIGKILL" in incident.evidence
    assert "request 17" in incident.evidence


def test_a_process_that_exits_with_an_error_is_an_incident_that_names_the_status(
    watched: WatchedHome,
) -> None:
    [dummy] = watched.start_watched(crashed="crash")
    watched.block_file("crashed").touch()
    dummy.wait()
    assert "exit status 3" in watched.incident("crashed", "dead").evidence


def test_a_death_is_one_incident_and_closes_when_the_next_incarnation_is_ready(
    watched: WatchedHome,
) -> None:
    [dummy] = watched.start_watched(reborn="turn")
    dummy.kill()  # and left a zombie, as by a supervisord that stands still
    incident = watched.incident("reborn", "dead")
    watched.turns("watchdog", 2)
    watched.start_watched(reborn="turn")
    until(lambda: watched.incidents("reborn")[0].recovered_ms)
    beat = watched.beat("reborn")
    assert beat and beat.ready_at
    took = round(1000 * (beat.ready_at - incident.clock))
    assert [each.recovered_ms for each in watched.incidents("reborn")] == [took]


def test_what_ends_of_its_own_will_is_no_incident(watched: WatchedHome) -> None:
    leaving, witness = watched.start_watched(leaving="turn", witness="turn")
    leaving.terminate()
    assert leaving.wait() == 0
    witness.kill()
    watched.incident("witness", "dead")
    assert watched.incidents("leaving") == []


@pytest.mark.long
def test_a_stopped_process_is_sent_on_its_way_and_is_replaced_if_stopped_again(
    watched: WatchedHome,
) -> None:
    names = ("stopped", "stopped-busy")
    dummies = watched.start_watched(**{"stopped": "turn", "stopped-busy": "turn-busy"})
    for dummy in dummies:
        stop(dummy)
    for dummy in dummies:
        until(lambda dummy=dummy: not is_stopped(dummy.pid))
    for name in names:
        assert watched.incident(name, "stopped").action == "continued"
        until(lambda name=name: watched.incidents(name)[0].recovered_ms is not None)
    for dummy in dummies:
        stop(dummy)
    for name, dummy in zip(names, dummies, strict=True):
        until(lambda dummy=dummy: dummy.poll() is not None)
        assert [each.action for each in watched.incidents(name)] == ["continued", "killed"]


@pytest.mark.parametrize("behaviour", HUNG)
def test_what_hangs_is_killed_with_evidence(watched: WatchedHome, behaviour: str) -> None:
    incident = watched.incident(behaviour, HUNG[behaviour])
    assert incident.action == "killed"
    until(lambda: not watched.lives(behaviour))
    facts = json.loads(watched.evidence(behaviour, "facts.json"))
    assert facts["beat"] and facts["rss_bytes"] > 0
    if behaviour != "overdue":  # its loop turns, and is found in no place of its own
        line = "hold_the_interpreter" if behaviour == "frozen" else "wait_for_ever_in_a_deadlock"
        assert f"in {line}" in watched.evidence(behaviour, "stacks.txt")


def test_an_overdue_request_is_named_in_the_evidence(watched: WatchedHome) -> None:
    evidence = watched.incident("overdue", "hung-request").evidence
    assert "request 17" in evidence
    assert "overdue by" in evidence


def test_a_kill_is_one_incident_and_not_a_death_besides(watched: WatchedHome) -> None:
    for behaviour in HUNG:
        watched.incident(behaviour, HUNG[behaviour])
        until(lambda behaviour=behaviour: not watched.lives(behaviour))
    watched.turns("watchdog", 2)
    for behaviour in HUNG:
        assert len(watched.incidents(behaviour)) == 1


@pytest.mark.long
def test_the_number_of_a_dead_process_that_went_to_a_stranger_is_not_signalled(
    watched: WatchedHome,
) -> None:
    stranger = watched.start("-c", "import time; time.sleep(3600)")
    reading = until(lambda: read_stat(stranger.pid))
    watched.forge(
        Beat(
            name="forged",
            role="worker",
            pid=stranger.pid,
            started=reading.started - 1,
            boot_id=boot_id(),
            state=ProcessState.BUSY,
            request_id=1,
            request_start=1.0,
            request_deadline=2.0,
        )
    )
    assert "found dead" in watched.incident("forged", "dead").evidence
    watched.turns("watchdog", 4)
    assert stranger.poll() is None


def test_what_is_busy_within_its_deadline_is_never_killed_however_it_looks(
    watched: WatchedHome,
) -> None:
    silent = [watched.beat(name) for name in BUSY]
    until(lambda: time.monotonic() - max(b.loop_beat for b in silent if b) > 10)
    watched.turns("watchdog", 2)
    assert [watched.lives(name) for name in BUSY] == [True] * 3
    assert [watched.incidents(name) for name in BUSY] == [[]] * 3


@pytest.mark.long
def test_a_watchdog_that_was_itself_stopped_kills_nothing_on_waking(tmp_path: Path) -> None:
    with WatchedHome(tmp_path) as watched:
        watchdog = watched.watch()
        [dummy] = watched.start_watched(worker="turn")
        stop(watchdog)
        watched.block_file("worker").touch()
        asleep = time.monotonic()
        until(lambda: time.monotonic() - asleep > 20, 30)
        watchdog.send_signal(signal.SIGCONT)
        # The worker is as slow to wake: it still looks 20 s old, and older at every turn.
        watched.turns("watchdog", 3)
        watched.block_file("worker").unlink()
        watched.turns("watchdog", 3)
        assert dummy.poll() is None
        assert watched.incidents("worker") == []


@pytest.mark.long
def test_a_new_watchdog_misses_no_death_and_records_none_twice(tmp_path: Path) -> None:
    with WatchedHome(tmp_path) as watched:
        first = watched.watch()
        seen, unseen, back = watched.start_watched(seen="turn", unseen="turn", back="turn")
        seen.kill()
        watched.incident("seen", "dead")
        first.kill()
        first.wait()
        for process in (unseen, back):
            process.kill()
            process.wait()
        watched.start_dummy("back", "turn")
        watched.watch()
        watched.incident("unseen", "dead")
        watched.incident("back", "dead")
        watched.incident("watchdog", "dead")
        until(lambda: watched.incidents("back")[0].recovered_ms is not None)
        watched.turns("watchdog", 3)
        for name in ("seen", "unseen", "back", "watchdog"):
            assert [each.verdict for each in watched.incidents(name)] == ["dead"], name


@pytest.mark.long
def test_what_a_killed_worker_leaves_behind_is_ended(tmp_path: Path) -> None:
    with WatchedHome(tmp_path) as watched:
        watched.watch()
        child = watched.start("-c", "import time; time.sleep(3600)", env=watched.marks("overdue"))
        other = watched.start("-c", "import time; time.sleep(3600)", env=watched.marks("healthy"))
        watched.start_dummy("overdue", "overdue")
        watched.incident("overdue", "hung-request")
        until(lambda: child.poll() is not None)
        assert other.poll() is None


@pytest.mark.long
def test_the_watchdog_ends_when_supervisord_does(tmp_path: Path) -> None:
    with WatchedHome(tmp_path) as watched:
        watchdog = watched.watch()
        assert watchdog.stdin
        watchdog.stdin.write(b"typed by an operator\n")
        watchdog.stdin.flush()
        watched.turns("watchdog", 2)
        watchdog.stdin.close()
        assert watchdog.wait(30) == 0
        beat = watched.beat("watchdog")
        assert beat and beat.state is ProcessState.STOPPED


def test_a_second_watchdog_of_one_home_is_refused(tmp_path: Path) -> None:
    with WatchedHome(tmp_path) as watched:
        first = watched.watch()
        second = watched.start(WATCHDOG, str(watched.home.root))
        assert second.wait(30) != 0
        assert first.poll() is None
