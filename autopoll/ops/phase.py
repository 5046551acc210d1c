"""Whether a home is up, down, or on its way, and by whom: told without changing anything."""

import os
import time
from enum import StrEnum

from autopoll.errors import SupervisorError
from autopoll.home.home import Home, socket_path
from autopoll.home.lock import holder_and_words, holder_of
from autopoll.process import heartbeat
from autopoll.process.proc_stat import read_stat
from autopoll.process.supervisor_rpc import Supervisor

PATIENCE_S = 1.0  # for supervisord's answer, and for the last moments of one that ends
STEP_S = 0.02
START_S = 60.0  # until then who holds the home may still be clearing up after its predecessor
UP, DOWN, RESTART = "autopoll up", "autopoll down", "autopoll restart"  # who holds the home's turn


class Phase(StrEnum):
    """How far a home is."""

    DOWN = "down"
    STARTING = "starting"  # supervisord does not listen yet
    RUNNING = "running"
    STOPPING = "stopping"
    HUNG = "hung"  # supervisord is there and cannot be reached


def look(home: Home) -> tuple[Phase, str]:
    """Return the phase, and in words what is behind it; empty when it runs or is down."""
    try:
        Supervisor(socket_path(home), PATIENCE_S).state()
    except SupervisorError as error:
        return told_by(error, home)
    return Phase.RUNNING, ""


def told_by(error: SupervisorError, home: Home) -> tuple[Phase, str]:
    """Return what it means that supervisord has not answered a call, and in words why.

    Whoever asks while it changes the home itself is told of supervisord alone.
    """
    changer, doing = holder_and_words(home.change_lock)
    if changer == os.getpid():
        changer = None
    command = f"`{doing}` (process {changer})" if changer else ""
    if error.stopping:
        return Phase.STOPPING, f"{command} is under way" if command else error.what
    if error.hung:
        return Phase.HUNG, error.what
    holder = holder_of(home.supervisord_lock)
    if changer and doing == DOWN:
        return (Phase.STOPPING if holder else Phase.DOWN), f"{command} is under way"
    if changer and doing == RESTART and holder == changer:
        return Phase.STOPPING, f"{command} is under way"
    if changer and doing.startswith((UP, RESTART)):
        return Phase.STARTING, f"{command} is under way"
    if holder is None:
        return Phase.DOWN, ""
    return _unreachable(error, home, holder)


def _has_programs(home: Home, since: int) -> bool:
    """Tell whether a program of its own has begun: supervisord listens before it starts any."""
    return any(
        beat.started >= since and heartbeat.is_alive(beat)
        for beat in heartbeat.read_all(home.beats)
    )


def _unreachable(error: SupervisorError, home: Home, holder: int) -> tuple[Phase, str]:
    """Tell a supervisord that does not listen yet, or no more, from one that never will again."""
    reading = read_stat(holder)
    if reading and reading.age_s < START_S and not _has_programs(home, reading.started):
        return Phase.STARTING, f"supervisord (process {holder}) does not listen yet"
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if holder_of(home.supervisord_lock) != holder:
            return Phase.DOWN, ""
        time.sleep(STEP_S)
    return Phase.HUNG, (
        f"process {holder} holds the home and cannot be reached: {error.what}; "
        "run: autopoll restart"
    )
