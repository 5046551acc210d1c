"""The poller's watch over the watchdog."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from place import until
from watched_home import WatchedHome, is_stopped, stop

from autopoll.errors import SupervisorError
from autopoll.poller import watchdog_guard
from autopoll.poller.watchdog_guard import WatchdogGuard
from autopoll.process import signals
from autopoll.process.proc_stat import ProcStat, read_stat
from autopoll.process.supervisor_rpc import Supervisor
from autopoll.process.verdict import Thresholds

CONF = """
[unix_http_server]
file = %(here)s/../var/run/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisord]
pidfile = %(here)s/../var/run/supervisord.pid
logfile = %(here)s/../var/log/supervisord.log
[program:watchdog]
command = /bin/sh -c "date >>starts; test -e mended && exec sleep 600"
directory = %(here)s/..
startsecs = 1
startretries = 0
"""
HURRIED = Thresholds(stopped=0.3, silent=0.5, blocked=0.3)


def look(watched: WatchedHome, *done: Callable[[], object]) -> None:
    """Look after the watchdog until one thing after the other is so; never hold up the loop."""

    async def main() -> None:
        watch = WatchdogGuard(watched.home, HURRIED)
        async with asyncio.timeout(60):
            for condition in done:
                while not condition():
                    watch.check()
                    before = time.monotonic()
                    await asyncio.sleep(0.05)
                    assert time.monotonic() - before < 3.0

    asyncio.run(main())


def seen(watched: WatchedHome) -> list[tuple[str, str]]:
    return [(each.verdict, each.action) for each in watched.incidents("watchdog")]


def test_a_stopped_watchdog_is_continued_once_and_then_killed(tmp_path: Path) -> None:
    with WatchedHome(tmp_path) as watched:
        watchdog = watched.start_dummy("watchdog", "turn")
        stop(watchdog)

        def goes_on() -> bool:
            if is_stopped(watchdog.pid):
                return False
            stop(watchdog)
            return True

        look(watched, goes_on, lambda: watchdog.poll() is not None)
        assert watchdog.returncode == -signal.SIGKILL
        assert seen(watched) == [("stopped", "continued"), ("stopped", "killed")]


def test_a_watchdog_that_cannot_be_interrupted_is_killed_at_most_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_state_d(pid: int) -> ProcStat | None:
        reading = read_stat(pid)
        return reading and msgspec.structs.replace(reading, state="D")

    def undying(_pid: int, _started: int, number: signal.Signals) -> None:
        sent.append(number)

    sent: list[signal.Signals] = []
    monkeypatch.setattr(signals, "send_group", undying)
    monkeypatch.setattr(watchdog_guard, "read_stat", in_state_d)
    with WatchedHome(tmp_path) as watched:
        watched.start_dummy("watchdog", "deadlocked")
        begun = time.monotonic()
        look(watched, lambda: sent, lambda: time.monotonic() - begun > 3.0)
        assert sent == [signal.SIGKILL]
        assert seen(watched) == [("uninterruptible", "killed")]


def test_a_poller_that_was_stopped_blames_the_watchdog_for_nothing_it_has_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=time.monotonic())
    clock.monotonic = lambda: clock.now
    sent: list[signal.Signals] = []
    monkeypatch.setattr(signals, "send_group", lambda _pid, _started, number: sent.append(number))
    with WatchedHome(tmp_path) as watched:
        watched.start_dummy("watchdog", "turn")
        monkeypatch.setattr(watchdog_guard, "time", clock)
        watch = WatchdogGuard(watched.home)

        def check(times: int) -> None:
            for _ in range(times):
                clock.now += 1.0
                watch.check()

        check(3)
        clock.now += 60.0
        check(5)
        assert seen(watched) == []
        check(10)
        assert sent == [signal.SIGKILL], "its beats are old by this clock, and we were awake"


@pytest.fixture
def given_up(tmp_path: Path) -> Iterator[WatchedHome]:
    """A home whose watchdog did not start for a reason that is mended by now."""
    with WatchedHome(tmp_path, CONF) as watched:
        supervisord = watched.start(
            "-m", "supervisor.supervisord", "-n", "-s", "-c", str(watched.home.supervisord_conf)
        )
        until(lambda: state(watched) == "FATAL")
        (tmp_path / "mended").touch()
        yield watched
        supervisord.terminate()
        supervisord.wait(20)


def state(watched: WatchedHome) -> str:
    try:
        return Supervisor(watched.home.run / "s.sock").process("watchdog").state
    except SupervisorError:
        return "not listening yet"


@pytest.mark.long
def test_a_watchdog_that_supervisord_has_given_up_is_started_again(given_up: WatchedHome) -> None:
    look(given_up, lambda: state(given_up) == "RUNNING")
    assert seen(given_up) == [("dead", "started again")]


@pytest.mark.long
def test_a_watchdog_that_an_operator_has_stopped_stays_stopped(given_up: WatchedHome) -> None:
    supervisor = Supervisor(given_up.home.run / "s.sock")
    supervisor.start("watchdog")
    until(lambda: state(given_up) == "RUNNING")
    supervisor.stop("watchdog", wait=True)
    stopped = time.monotonic()
    look(given_up, lambda: time.monotonic() - stopped > watchdog_guard.MISSED_AFTER_S + 2)
    assert state(given_up) == "STOPPED"
    assert seen(given_up) == []
