"""What keeps a shard from answering while the home is up, for those who wait for its answer.

Heartbeats are read, which costs microseconds, and supervisord is asked only about what is missing.
"""

import time

import msgspec

from autopoll.errors import Down, NotFound, SupervisorError
from autopoll.home.config import Config
from autopoll.home.home import Home, socket_path
from autopoll.process import heartbeat
from autopoll.process.heartbeat import ProcessState
from autopoll.process.supervisor_rpc import Program, Supervisor

STALE_S = 5.0  # a main loop that has not beaten for longer is not well
PATIENCE_S = 1.0  # for supervisord's answer
POLLER, WATCHDOG = "poller", "watchdog"


class Obstacle(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing is answered now; what is not `lasting` is mended without anybody's help."""

    what: str
    mend: str = ""
    lasting: bool = False

    def blocked(self, kept: str, fetch: str) -> "Blocked":
        """Return the error that ends a wait, given what is kept and how to fetch it."""
        return Blocked(
            self,
            f"{self.what}: {kept} is kept and will be answered once that is mended",
            f"{self.mend}; then {fetch}",
        )


class Blocked(Down):
    """Something lasting is in the way of the answer that was waited for."""

    def __init__(self, obstacle: Obstacle, what: str, mend: str) -> None:
        super().__init__(what, mend)
        self.obstacle = obstacle


def obstacle(home: Home, config: Config, shard: str | None) -> Obstacle | None:
    """Return what is in the way of a shard's answers; of the poller's alone when none is named.

    A home that is down as a whole cannot be distinguished from one that is just ending: None.
    """
    if found := _of(home, POLLER):
        return found
    names = [name for name, each in config.instances().items() if each == shard]
    found_all = [_of(home, name) for name in names]
    if not names or None in found_all:
        return None
    # What passes by itself first: then the shard will answer without anybody's help.
    return min((each for each in found_all if each), key=lambda each: each.lasting)


def last_error(home: Home, name: str) -> str:
    """Return the last error that a program wrote to its stderr."""
    path = home.log / f"{name}.stderr"
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    errors = [line.removeprefix("autopoll: ") for line in lines if line.startswith("autopoll: ")]
    return errors[-1] if errors else "it says nothing"


def _of(home: Home, name: str) -> Obstacle | None:
    """Return what keeps one process from working."""
    beat = heartbeat.read(home.beats / name)
    if beat is None or not heartbeat.is_alive(beat):
        return _missing(home, name)
    if beat.state is ProcessState.HELD:
        return Obstacle(what=f"{name} is held: {beat.note}")
    silent = time.monotonic() - beat.loop_beat
    free = beat.request_deadline is None and beat.state is not ProcessState.STARTING
    if free and silent > STALE_S:
        what = f"{name} has stood still for {silent:.0f} s"
        return _unless_watched(home, name, what)
    return None


def _missing(home: Home, name: str) -> Obstacle | None:
    """Return why a process does not live, as far as supervisord knows."""
    supervisor = Supervisor(socket_path(home), PATIENCE_S)
    try:
        program = supervisor.process(f"{name}:{name}")
    except NotFound:
        what = f"supervisord knows no {name}"
        return Obstacle(
            what=what, mend="Have it take up the settings: autopoll reload", lasting=True
        )
    except SupervisorError as error:
        if error.stopping:
            return Obstacle(what="autopoll is going down")
        if not error.hung:
            return None
        what = f"{name} is gone and supervisord, which would start it, does not answer"
        return Obstacle(what=what, mend="Restart everything: autopoll restart", lasting=True)
    return _explained(home, name, program)


def _explained(home: Home, name: str, program: Program) -> Obstacle:
    start = f"autopoll restart {name}"
    match program.state:
        case "STOPPED":
            return Obstacle(
                what=f"{name} was stopped by hand", mend=f"Start it: {start}", lasting=True
            )
        case "EXITED" if program.refused_settings:
            what = f"{name} does not start: {last_error(home, name)}"
            return Obstacle(what=what, mend=f"Mend that, and start it: {start}", lasting=True)
        case "FATAL":
            what = f"{name} failed whenever it was started: {last_error(home, name)}"
            return _unless_watched(home, name, what)
        case "BACKOFF":
            return Obstacle(what=f"{name} is started again: {last_error(home, name)}")
    return Obstacle(what=f"{name} is started")


def _unless_watched(home: Home, name: str, what: str) -> Obstacle:
    """Return what the watchdog would mend, if it is there."""
    beat = heartbeat.read(home.beats / WATCHDOG)
    if beat is not None and heartbeat.is_alive(beat):
        return Obstacle(what=what)
    mend = f"Start it: autopoll restart {name}"
    return Obstacle(what=f"{what}, and no watchdog is there", mend=mend, lasting=True)
