"""Who started or stopped a home and when, and how it went down when nobody has stopped it."""

import time
from datetime import UTC, datetime

from autopoll import __version__
from autopoll.clock import wall_ms, zoned
from autopoll.home import operation_log
from autopoll.home.home import Home
from autopoll.home.operation_log import Operation
from autopoll.process import heartbeat
from autopoll.process.proc_stat import boot_id

STARTED, STOPPED, ENDED = "started", "stopped", "ended"


def note_start(home: Home, command: str) -> None:
    """Note who starts the home, and which version supervisord will run."""
    operation_log.note(home, STARTED, command=command, detail=__version__)


def note_stop(home: Home, command: str, *, was_up: bool) -> None:
    """Note who has stopped the home, or, of one that was down, how that came; before clearing up.

    Of one that nobody has started since, nothing is noted.
    """
    if was_up:
        operation_log.note(home, STOPPED, command=command)
    elif (last := _last(home)) and last.did == STARTED:
        operation_log.note(home, ENDED, detail=_how_ended(home, last))


def last_change(home: Home, *, is_down: bool) -> str | None:
    """Return who started or stopped the home, and when; None where nothing was noted."""
    last = _last(home)
    if last is None:
        return None
    if last.did == ENDED:
        return last.detail
    if is_down and last.did == STARTED:
        return _how_ended(home, last)
    return f"{last.did} by {last.by} at {zoned(last.at)} with `{last.command}`"


def supervisord_version(home: Home) -> str | None:
    """Return the version that was installed when the home was last started."""
    started = operation_log.last(home, STARTED)
    return started.detail or None if started else None


def _last(home: Home) -> Operation | None:
    return operation_log.last(home, STARTED, STOPPED, ENDED)


def _how_ended(home: Home, started: Operation) -> str:
    """Return how a home ended that was started and that no command has stopped."""
    since = f"it was started by {started.by} at {zoned(started.at)}"
    beats = [each for each in heartbeat.read_all(home.beats) if each.boot_id == boot_id()]
    if not beats:
        booted = wall_ms() / 1000 - time.clock_gettime(time.CLOCK_BOOTTIME)
        return f"nobody stopped it: the machine was restarted at {_moment(booted)}; {since}"
    last_beat = max(each.thread_beat for each in beats)
    moment = _moment(wall_ms() / 1000 - (time.monotonic() - last_beat))
    if not (home.run / "supervisord.pid").exists():  # which it removes at its end
        return (
            f"supervisord was told to end, by a service manager, supervisorctl or a signal, at"
            f" {moment}; {since}"
        )
    return f"nobody stopped it: supervisord was killed at about {moment}; {since}"


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}"
