"""Restarts a home, or one program of it."""

from autopoll.home.config import Config
from autopoll.home.home import Home, socket_path
from autopoll.ops.change_lock import RESTART, Report, changing
from autopoll.ops.copied_home import refuse_copy
from autopoll.ops.down import take_down
from autopoll.ops.readiness import START_LIMIT_S, does_not_start, wait_for
from autopoll.ops.start_checks import check_start
from autopoll.ops.supervisord_state import wait_until_steady
from autopoll.ops.up import bring_up
from autopoll.process import heartbeat
from autopoll.process.heartbeat import Beat
from autopoll.process.ready import is_held, is_up
from autopoll.process.supervisor_rpc import Supervisor


def restart_home(home: Home, config: Config, report: Report) -> None:
    """Take the home down and bring it up; raises what `up` does."""
    check_start(home, config)
    with changing(home, RESTART, report):
        take_down(home, config, report, RESTART)
        bring_up(home, report)


def restart_program(home: Home, name: str, report: Report) -> None:
    """Drain and restart one program.

    Raises Down with the reason of a worker that does not start; it is tried again by itself.
    """
    refuse_copy(home)
    with changing(home, f"{RESTART} {name}", report):
        wait_until_steady(home, report)
        report(f"draining {name}")
        before = heartbeat.read(home.beats / name)
        Supervisor(socket_path(home)).restart(name)
        wait_for(lambda: [] if _is_back(home, name, before) else [name], report, START_LIMIT_S)


def _is_back(home: Home, name: str, before: Beat | None) -> bool:
    """Tell whether a successor of the process `before` is ready; raise Down when it fails."""
    beat = heartbeat.read(home.beats / name)
    if beat is None or (before and beat.pid == before.pid):
        return False
    if is_held(home, beat):
        raise does_not_start(name, beat.note)
    return is_up(home, beat)
