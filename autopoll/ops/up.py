"""Brings a home up: checks it, starts supervisord, and waits until every program is ready.

supervisord is the one that restarts programs; this module only starts it.
"""

import os
import signal
import sys
from contextlib import nullcontext

from autopoll.errors import AlreadyRunning, AutopollError, Exit
from autopoll.home.config import Config, load
from autopoll.home.home import Home
from autopoll.home.lock import acquire, holder_of
from autopoll.ops import crash_cleanup
from autopoll.ops.change_lock import UP, Report, changing
from autopoll.ops.down import take_down
from autopoll.ops.init import prepare
from autopoll.ops.last_change import note_start, note_stop
from autopoll.ops.line_writer import STDOUT, LineWriter
from autopoll.ops.programs import names_of, write_programs
from autopoll.ops.readiness import START_LIMIT_S, given_up, wait_ready
from autopoll.ops.start_checks import check_start
from autopoll.ops.supervisord_launch import become_supervisord, launch, why_ended
from autopoll.ops.supervisord_state import SupervisordState, wait_until_steady
from autopoll.process.proc_stat import read_stat
from autopoll.process.ready import missing


def up(home: Home, config: Config, report: Report) -> int | None:
    """Start everything in the background and return when it is ready.

    When another command has started it meanwhile, its supervisord is waited for, and its pid
    returned. Raises AlreadyRunning, ConfigError, or Down with the reason of what did not come up.
    """
    check_start(home, config)
    was_up = _settled_supervisord(home, config)
    with changing(home, UP, report):
        return bring_up(home, report, was_up)


def bring_up(home: Home, report: Report, was_up: int | None = None) -> int | None:
    """Do what `up` does; called with the change lock held, so that the settings stay as they are.

    `was_up` is the supervisord of a home that was up before the lock was taken.
    """
    config = load(home)
    check_start(home, config)
    state = wait_until_steady(home, report)
    holder = holder_of(home.supervisord_lock)
    if holder == was_up is not None or (holder is None and state is SupervisordState.RUNNING):
        raise _already_up(home)
    if holder:
        report(f"waiting for what process {holder} starts")
        wait_ready(home, config, report, lambda: _why_other_ended(home, holder))
        return holder
    _start(home, config, report)
    return None


def _start(home: Home, config: Config, report: Report) -> None:
    """Start supervisord and wait until all is ready; take everything down when a part fails."""
    prepare(home, config)
    report("starting supervisord")
    child = launch(home, os.environ)
    try:
        wait_ready(home, config, report, lambda: why_ended(home, child))
    except AutopollError:
        # The next `up` is to start from nothing. What another command has started stays.
        if holder_of(home.supervisord_lock) in (None, child.pid):
            take_down(home, config, report, UP)
        raise


def up_in_foreground(home: Home, config: Config) -> None:
    """Become supervisord; never returns. For containers, systemd, and `up` itself."""
    report = LineWriter(STDOUT, as_json=config.logging.format == "json").write_line
    # The first process of a container is sent no signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Exit.OK))
    check_start(home, config)
    # Started by `up`, which holds the change lock until all is ready; else we hold it until we
    # are supervisord.
    alone = holder_of(home.change_lock) != os.getppid()
    with changing(home, f"{UP} --foreground", report) if alone else nullcontext():
        config = load(home)
        if alone and wait_until_steady(home, report) is SupervisordState.RUNNING:
            raise _already_up(home)
        prepare(home, config)
        lock = acquire(home.supervisord_lock, f"supervisord of {home.root}")
        note_stop(home, UP, was_up=False)
        crash_cleanup.clean_up(home, config.delivery.drain_timeout)
        crash_cleanup.close_past_incidents(home, names_of(config))
        home.make_private()
        write_programs(home, config)
        note_start(home, f"{UP} --foreground" if alone else UP)
        become_supervisord(home, config, lock)


def _settled_supervisord(home: Home, config: Config) -> int | None:
    """Return the supervisord of a home that is up; None for one that is still coming up."""
    holder = holder_of(home.supervisord_lock)
    reading = read_stat(holder) if holder else None
    if reading is None:
        return None
    is_late = reading.age_s > START_LIMIT_S or given_up(home)
    return holder if is_late or not missing(home, names_of(config)) else None


def _why_other_ended(home: Home, supervisord: int) -> str:
    """Return that a supervisord which is not our child has ended; empty while it runs."""
    if holder_of(home.supervisord_lock) == supervisord:
        return ""
    return f"process {supervisord}, which another command started, has ended"


def _already_up(home: Home) -> AlreadyRunning:
    """Return the error that names the supervisord of a home that is up."""
    holder = holder_of(home.supervisord_lock)
    by = f"supervisord is process {holder}" if holder else "by a supervisord started by hand"
    return AlreadyRunning(
        f"{home.root} is up already ({by})", "Use `autopoll restart`, or `autopoll down` first."
    )
