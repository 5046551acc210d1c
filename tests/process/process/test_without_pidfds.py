"""Signals, children and what they have started: all of it holds where there are no pidfds."""

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autopoll.backends.child.child import Child
from autopoll.home.home import Home
from autopoll.process import incident_log, signals
from autopoll.process.heartbeat import Beat
from autopoll.process.heartbeat_writer import Heart
from autopoll.process.proc_stat import boot_id, read_stat
from autopoll.process.verdict import Thresholds
from autopoll.watchdog.watchdog import Watchdog

TESTS = Path(__file__).parents[2]
# What a process died of nobody tells without a pidfd.
CHOSEN = "(test_signals and not died_of) or detached"


@pytest.mark.long
def test_the_tests_of_signals_and_children_pass_under_a_filter() -> None:
    names = ("process/test_signals.py", "backends/test_command_backend.py")
    files = [TESTS / "process" / name for name in names]
    done = subprocess.run(
        [
            *(sys.executable, TESTS / "without.py", "pidfd_open,pidfd_send_signal"),
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", CHOSEN),
            *files,
        ],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refuse)


def test_a_program_that_exits_is_reported_with_its_code(tmp_path: Path, refused: None) -> None:
    async def main() -> str:
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        child = Child(
            # Its output is held open by another, so that only its exit shows that it is gone.
            ["/bin/sh", "-c", "sleep 30 & exit 7"],
            folder=tmp_path,
            environment=dict(os.environ),
            on_line=lambda line: None,
            on_end=ended.set_result,
        )
        try:
            return await asyncio.wait_for(ended, 20)
        finally:
            await child.stop()

    assert "exited with code 7" in asyncio.run(main())


def test_the_watchdog_looks_itself_which_process_has_died(tmp_path: Path, refused: None) -> None:
    home = Home(tmp_path)
    home.supervisord_conf.parent.mkdir()
    home.supervisord_conf.write_text("[unix_http_server]\nfile = %(here)s/../var/run/s.sock\n")
    home.make_private()
    process = subprocess.Popen(["sleep", "60"])
    reading = read_stat(process.pid)
    assert reading
    folder = signals.open_process(process.pid, reading.started)
    assert folder is not None and not signals.is_pidfd(folder)
    beat = Beat(
        name="worker", role="worker", pid=process.pid, started=reading.started, boot_id=boot_id()
    )

    async def main() -> None:
        with Heart.open(home.beats, "watchdog", "watchdog") as heart:
            watchdog = Watchdog(home, heart, Thresholds())
            watchdog.watch_list.update(beat)
            watchdog.watch_list.notice_ends()
            assert watchdog.watch_list.is_living(beat)
            process.kill()
            assert signals.is_ready(folder, 20)  # a zombie, as by a supervisord that stands still
            watchdog.watch_list.notice_ends()
            assert not watchdog.watch_list.is_living(beat)
            assert "no pidfds" in heart.note
            await watchdog.tasks.cancel()

    asyncio.run(main())
    [incident] = incident_log.read(home.incidents)
    assert (incident.process, incident.verdict, incident.pid) == ("worker", "dead", process.pid)
    process.wait()
    os.close(folder)
