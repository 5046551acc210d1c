"""Waiting for a home that was started, until it is ready or something in it does not start."""

import sys
import time
from collections.abc import Callable

from autopoll.client.availability import last_error
from autopoll.errors import DoesNotStart, Down, Exit, SupervisorError, TimedOut
from autopoll.home.config import Config
from autopoll.home.home import Home, socket_path
from autopoll.home.lock import holder_of
from autopoll.ops.programs import GATEWAY, names_of
from autopoll.process import heartbeat
from autopoll.process.proc_stat import read_stat
from autopoll.process.ready import is_held, missing
from autopoll.process.supervisor_rpc import Supervisor

START_LIMIT_S = 90.0
STEP_S = 0.05

Report = Callable[[str], None]


def wait_ready(home: Home, config: Config, report: Report, gone: Callable[[], str]) -> None:
    """Wait until every role beats and is ready; raise Down with what is known of a failure.

    A gateway that does not start is no reason to go without all else: whoever waits tells of it.
    """
    names = names_of(config)
    reported = ""
    end = time.monotonic() + START_LIMIT_S
    while waiting := missing(home, names, since=_start_of_supervisord(home)):
        if why := gone():
            raise Down(f"supervisord did not start: {why}")
        if failed := given_up(home, but=GATEWAY):
            raise failed
        if waiting == [GATEWAY] and given_up(home):
            return
        if time.monotonic() > end:
            raise TimedOut(
                f"not ready after {START_LIMIT_S:.0f} s: {', '.join(waiting)}",
                f"See: autopoll logs {waiting[0]}",
            )
        if (text := f"waiting for {', '.join(waiting)}") != reported:
            report(reported := text)
        time.sleep(STEP_S)


def _start_of_supervisord(home: Home) -> int:
    """Return when it started, in ticks of this boot; what is older is from another time or home."""
    holder = holder_of(home.supervisord_lock)
    reading = read_stat(holder) if holder else None
    return reading.started if reading else sys.maxsize


def given_up(home: Home, *, but: str = "") -> Down | None:
    """Return what is to be said of a program, `but` this one, that supervisord does not try any
    more, or of a worker that holds back from trying."""
    for beat in heartbeat.read_all(home.beats):
        if is_held(home, beat):
            return does_not_start(beat.name, beat.note)
    try:
        programs = Supervisor(socket_path(home)).processes()
    except SupervisorError:
        return None  # not listening yet
    for program in programs:
        refused = program.state == "EXITED" and program.exitstatus == Exit.BAD_CONFIG
        if program.name != but and (program.state == "FATAL" or refused):
            return does_not_start(program.name, last_error(home, program.name))
    return None


def does_not_start(name: str, said: str) -> DoesNotStart:
    """Return the error that names a program and the reason it gave."""
    return DoesNotStart(f"{name} does not start: {said}", f"More in: autopoll logs {name}")
