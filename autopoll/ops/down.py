"""Takes a home down: drains it, ends supervisord, and clears what is left."""

import os
import signal
import time
from contextlib import suppress

from autopoll.errors import AlreadyRunning, Down, SupervisorError
from autopoll.home.config import STOP_WAIT_S, Config, DeliverySection
from autopoll.home.home import Home, socket_path
from autopoll.home.lock import hold_in_turn, holder_of
from autopoll.ops import crash_cleanup
from autopoll.ops.change_lock import DOWN, Report, changing
from autopoll.ops.last_change import note_stop
from autopoll.process.supervisor_rpc import Supervisor

STEP_S = 0.05
PATIENCE_S = 5.0  # with the lock of a supervisord that has just ended


def down(home: Home, config: Config | None, report: Report) -> bool:
    """Drain and stop everything, leaving no process and nothing in var/run; tell if it was up.

    Without a config, because it cannot be read, orphans are given the usual time to drain.
    """
    if not home.locks.is_dir():
        return False
    with changing(home, DOWN, report):
        return take_down(home, config, report, DOWN)


def take_down(home: Home, config: Config | None, report: Report, command: str) -> bool:
    """Do what `down` does; called with the change lock held."""
    delivery = config.delivery if config else DeliverySection()
    lock = home.supervisord_lock
    holder = holder_of(lock)
    if holder:
        report("draining")
        _end_supervisord(home, holder, report)
    try:
        # Waited for, because supervisord is gone a moment before all that had its lock open.
        with hold_in_turn(lock, f"supervisord of {home.root}", PATIENCE_S):
            note_stop(home, command, was_up=bool(holder))
            left = crash_cleanup.clean_up(home, delivery.drain_timeout)
            crash_cleanup.close_all_incidents(home)
    except AlreadyRunning as error:
        raise Down(f"{home.root} was started again while it went down: {error.what}") from error
    return bool(holder or left)


def _end_supervisord(home: Home, supervisord: int, report: Report) -> None:
    """Have supervisord stop its programs and end; terminate or kill it when it does not."""
    with suppress(PermissionError):  # root's, by an earlier version, is reached by its socket
        _signal(supervisord, signal.SIGCONT)  # a stopped supervisord answers nothing
    try:
        Supervisor(socket_path(home)).shutdown()
    except SupervisorError as error:
        if not error.stopping:
            report(f"supervisord does not answer ({error.what}), terminating it")
            _signal(supervisord, signal.SIGTERM)
    # The groups of programs stop one after another, each within STOP_WAIT_S at the worst.
    if not _has_ended(home, supervisord, 3 * STOP_WAIT_S):
        report("supervisord does not end, killing it")
        _signal(supervisord, signal.SIGKILL)
        _has_ended(home, supervisord, PATIENCE_S)


def _has_ended(home: Home, supervisord: int, seconds: float) -> bool:
    """Wait until supervisord has freed its lock; tell whether it has."""
    end = time.monotonic() + seconds
    while holder_of(home.supervisord_lock) == supervisord:
        if time.monotonic() > end:
            return False
        time.sleep(STEP_S)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        os.kill(pid, number)
