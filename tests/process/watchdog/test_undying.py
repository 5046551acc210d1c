"""A process in uninterruptible sleep, which not even KILL ends: reported, and killed at most once.

On a disk that really hangs where the machine lets us make one, and everywhere by a faked reading.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hung_file_system import can_be_made, hung_file_system
from place import until
from watched_home import WatchedHome

from autopoll.process import signals
from autopoll.process.heartbeat_writer import Heart
from autopoll.process.proc_stat import ProcStat, read_stat
from autopoll.process.verdict import Thresholds
from autopoll.watchdog import remedy, watchdog
from autopoll.watchdog.watchdog import Watchdog

AFTERWARDS_S = 1.0  # in which a second signal would be sent, twenty times over
HURRIED = Thresholds(blocked=0.3, silent=0.2, overdue=0.1)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WatchedHome]:
    monkeypatch.setattr(remedy, "DEATH_S", 0.1)
    monkeypatch.setattr(watchdog, "LOOP_S", 0.05)
    with WatchedHome(tmp_path) as watched:
        yield watched


def signals_sent(monkeypatch: pytest.MonkeyPatch, send: Callable[..., None]) -> list[str]:
    """Return a list that grows with every signal that is sent through `send`."""
    sent: list[str] = []

    def note(pid: int, started: int, number: signal.Signals) -> None:
        sent.append(number.name)
        send(pid, started, number)

    monkeypatch.setattr(signals, "send_group", note)
    return sent


def watch(watched: WatchedHome, *actions: str) -> None:
    """Watch until all this was done to the worker, and on for a while."""

    async def main() -> None:
        with Heart.open(watched.home.beats, "watchdog", "watchdog") as heart:
            watching = Watchdog(watched.home, heart, HURRIED)
            task = asyncio.create_task(watching.run())
            async with asyncio.timeout(20):
                while len(watched.incidents("worker")) < len(actions):
                    await asyncio.sleep(0.05)
            await asyncio.sleep(AFTERWARDS_S)
            watching.stop()
            await task

    asyncio.run(main())
    seen = watched.incidents("worker")
    assert {each.verdict for each in seen} == {"uninterruptible"}
    assert [each.action for each in seen] == list(actions)
    assert "does not die" in seen[-1].evidence
    assert os.listdir(watched.home.evidence) != []


@pytest.mark.parametrize(
    ("behaviour", "actions"),
    [
        ("deadlocked", ["killed", "reported"]),
        ("overdue-deadlocked", ["reported", "killed", "reported"]),  # at first within its deadline
    ],
)
def test_what_does_not_die_of_a_kill_is_reported_and_gets_no_second_one(
    watched: WatchedHome, monkeypatch: pytest.MonkeyPatch, behaviour: str, actions: list[str]
) -> None:
    def in_state_d(pid: int) -> ProcStat | None:
        reading = read_stat(pid)
        return reading and msgspec.structs.replace(reading, state="D")

    sent = signals_sent(monkeypatch, lambda *_: None)
    monkeypatch.setattr(watchdog, "read_stat", in_state_d)
    watched.start_dummy("worker", behaviour)
    watch(watched, *actions)
    assert sent == ["SIGKILL"]


@pytest.mark.skipif(not can_be_made(), reason="only root may mount a file system, and with FUSE")
@pytest.mark.parametrize(
    ("behaviour", "actions"),
    [
        ("reads-a-hung-disk", ["killed", "reported"]),
        ("overdue-reads-a-hung-disk", ["reported", "killed", "reported"]),
    ],
)
def test_what_waits_for_a_hung_disk_is_killed_once_and_dies_when_the_disk_lets_go(
    watched: WatchedHome,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    behaviour: str,
    actions: list[str],
) -> None:
    sent = signals_sent(monkeypatch, signals.send_group)
    disk = tmp_path / "disk"
    disk.mkdir()
    with hung_file_system(disk):
        worker = watched.start_dummy("worker", behaviour, DISK=str(disk))
        until(lambda: (reading := read_stat(worker.pid)) and reading.state == "D")
        watch(watched, *actions)
        assert sent == ["SIGKILL"]
        assert worker.poll() is None, "KILL is pending"
    assert worker.wait(10) == -signal.SIGKILL
