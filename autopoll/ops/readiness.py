"""Waits for processes that were started, until they are ready or one of them does not start."""

import sys
import time
from collections.abc import Callable, Iterable

from autopoll.client.availability import last_error
from autopoll.errors import DoesNotStart, Down, SupervisorError, TimedOut
from autopoll.home.config import Config
from autopoll.home.home import Home, socket_path
from autopoll.home.lock import holder_of
from autopoll.ops.change_lock import Report
from autopoll.ops.programs import GATEWAY, names_of
from autopoll.process import heartbeat
from autopoll.process.proc_stat import read_stat
from autopoll.process.ready import is_held, missing
from autopoll.process.supervisor_rpc import Supervisor

START_LIMIT_S = 90.0
STEP_S = 0.05


def wait_for(
    unready: Callable[[], Iterable[str]], report: Report, limit_s: float, suffix: str = ""
) -> None:
    """Wait until `unready` names no process any more; it may raise to end the wait.

    Raises TimedOut after `limit_s`; `suffix` is added to its text.
    """
    end = time.monotonic() + limit_s
    reported = ""
    while names := list(unready()):
        if time.monotonic() > end:
            raise TimedOut(
                f"not ready after {limit_s:.0f} s{suffix}: {', '.join(names)}",
                f"See: autopoll logs {names[0]}",
            )
        if (text := f"waiting for {', '.join(names)}") != reported:
            report(reported := text)
        time.sleep(STEP_S)


def wait_ready(home: Home, config: Config, report: Report, ended: Callable[[], str]) -> None:
    """Wait until every program of a home is ready; raise Down with the reason of one that fails.

    `ended` returns why supervisord has ended, empty while it runs. A gateway that does not start
    does not end the others: `given_up` finds it afterwards.
    """
    names = names_of(config)

    def unready() -> list[str]:
        waiting = missing(home, names, since=_start_of_supervisord(home))
        if not waiting:
            return []
        if why := ended():
            raise Down(f"supervisord did not start: {why}")
        if failed := given_up(home, but=GATEWAY):
            raise failed
        return [] if waiting == [GATEWAY] and given_up(home) else waiting

    wait_for(unready, report, START_LIMIT_S)


def given_up(home: Home, *, but: str = "") -> Down | None:
    """Return the error of a program, `but` this one, that is not started again by itself: of one
    that supervisord has given up, or of a worker that is held after too many crashes."""
    for beat in heartbeat.read_all(home.beats):
        if is_held(home, beat):
            return does_not_start(beat.name, beat.note)
    try:
        programs = Supervisor(socket_path(home)).processes()
    except SupervisorError:
        return None  # not listening yet
    for program in programs:
        if program.name != but and program.is_given_up:
            return does_not_start(program.name, last_error(home, program.name))
    return None


def does_not_start(name: str, reason: str) -> DoesNotStart:
    """Return the error that names a program and the reason it gave."""
    return DoesNotStart(f"{name} does not start: {reason}", f"More in: autopoll logs {name}")


def _start_of_supervisord(home: Home) -> int:
    """Return when it started, in ticks of this boot: what is older belongs to another start or
    home."""
    holder = holder_of(home.supervisord_lock)
    reading = read_stat(holder) if holder else None
    return reading.started if reading else sys.maxsize
