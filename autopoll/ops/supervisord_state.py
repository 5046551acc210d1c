"""Whether the supervisord of a home is up, down, starting or stopping; looking changes nothing."""

import os
import time
from enum import StrEnum

from autopoll.errors import SupervisorError
from autopoll.home.config import STOP_WAIT_S
from autopoll.home.home import Home, socket_path
from autopoll.home.lock import holder_and_words, holder_of
from autopoll.ops.change_lock import DOWN, RESTART, UP, Report
from autopoll.process import heartbeat
from autopoll.process.proc_stat import read_stat
from autopoll.process.supervisor_rpc import Supervisor

PATIENCE_S = 1.0  # for supervisord's answer, and for the last moments of one that ends
STEP_S = 0.02
START_S = 60.0  # a supervisord that is younger may still be clearing up after its predecessor


class SupervisordState(StrEnum):
    """The states, as `status` shows them."""

    DOWN = "down"
    STARTING = "starting"  # supervisord does not listen yet
    RUNNING = "running"
    STOPPING = "stopping"
    HUNG = "hung"  # supervisord is there and cannot be reached


def supervisord_state(home: Home) -> tuple[SupervisordState, str]:
    """Return the state, and the reason in words; empty when it is running or down."""
    try:
        Supervisor(socket_path(home), PATIENCE_S).state()
    except SupervisorError as error:
        return state_from(error, home)
    return SupervisordState.RUNNING, ""


def state_from(error: SupervisorError, home: Home) -> tuple[SupervisordState, str]:
    """Return the state that a failed call to supervisord means, and the reason in words.

    A command that holds the change lock itself is left out of the reason.
    """
    changer, doing = holder_and_words(home.change_lock)
    if changer == os.getpid():
        changer = None
    under_way = f"`{doing}` (process {changer}) is under way" if changer else ""
    if error.stopping:
        return SupervisordState.STOPPING, under_way or error.what
    if error.hung:
        return SupervisordState.HUNG, error.what
    holder = holder_of(home.supervisord_lock)
    if changer and doing == DOWN:
        return (SupervisordState.STOPPING if holder else SupervisordState.DOWN), under_way
    if changer and doing == RESTART and holder == changer:
        return SupervisordState.STOPPING, under_way
    if changer and doing.startswith((UP, RESTART)):
        return SupervisordState.STARTING, under_way
    if holder is None:
        return SupervisordState.DOWN, ""
    return _unreachable(error, home, holder)


def wait_until_steady(home: Home, report: Report) -> SupervisordState:
    """Wait while supervisord starts or stops by itself, as after `supervisorctl shutdown`.

    Returns the state that it came to. Called with the change lock held.
    """
    end = time.monotonic() + 3 * STOP_WAIT_S
    reported = ""
    while True:
        state, why = supervisord_state(home)
        is_changing = state in (SupervisordState.STARTING, SupervisordState.STOPPING)
        if not is_changing or time.monotonic() > end:
            return state
        if why != reported:
            report(f"waiting: {why}")
            reported = why
        time.sleep(STEP_S)


def _unreachable(error: SupervisorError, home: Home, holder: int) -> tuple[SupervisordState, str]:
    """Return the state of a supervisord that holds its lock and does not listen."""
    reading = read_stat(holder)
    if reading and reading.age_s < START_S and not _has_programs(home, reading.started):
        return SupervisordState.STARTING, f"supervisord (process {holder}) does not listen yet"
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if holder_of(home.supervisord_lock) != holder:
            return SupervisordState.DOWN, ""
        time.sleep(STEP_S)
    return SupervisordState.HUNG, (
        f"process {holder} holds the home and cannot be reached: {error.what}; "
        "run: autopoll restart"
    )


def _has_programs(home: Home, since: int) -> bool:
    """Tell whether a program of its own has begun: supervisord listens before it starts any."""
    return any(
        beat.started >= since and heartbeat.is_alive(beat)
        for beat in heartbeat.read_all(home.beats)
    )
