"""The process tree of a home that runs, beside what its settings say that it should be."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from autopoll import __version__
from autopoll.errors import AutopollError
from autopoll.home import fingerprint
from autopoll.home.config import STOP_WAIT_S, Config, load
from autopoll.home.home import Home, shard_of, socket_path
from autopoll.home.lock import holder_of
from autopoll.process import heartbeat, signals
from autopoll.process.heartbeat import Beat
from autopoll.process.proc_stat import catches
from autopoll.process.supervisor_rpc import Program, Supervisor

POLLER = "poller"
GATEWAY = "gateway"
STEP_S = 0.05
SETTLE_S = 5.0  # startsecs and more
_LARGEST_ENVIRON = 4 * 1024 * 1024


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Which workers are to be added, restarted and removed, and whether the poller changes.

    The gateway is among them when it changes.
    """

    added: list[str]
    changed: list[str]
    removed: list[str]
    poller: bool

    @property
    def is_empty(self) -> bool:
        """Whether everything runs as the settings say."""
        return not (self.added or self.changed or self.removed or self.poller)

    @property
    def shards(self) -> list[str]:
        """The shards concerned, in the order of their names."""
        names = {*self.added, *self.changed, *self.removed} - {GATEWAY}
        return sorted({shard_of(name) for name in names})


class Tree:
    """The processes of a home that is up, as supervisord and their heartbeats know them."""

    def __init__(self, home: Home, supervisord: int) -> None:
        self.home = home
        self.supervisor = Supervisor(socket_path(home))
        self.environ = environ_of_process(supervisord)
        first = self.environ.get("PATH", "").partition(os.pathsep)[0]
        self._is_of_this_installation = first == str(Path(sys.executable).parent)
        self.programs()  # raises when supervisord does not answer: then nothing is touched

    @classmethod
    def of(cls, home: Home) -> "Tree | None":
        """Return the tree of a home, None when it is down; raise SupervisorError."""
        holder = holder_of(home.supervisord_lock)
        return cls(home, holder) if holder else None

    def load(self) -> Config:
        """Read the settings as the processes of the home read them."""
        return load(self.home, self.environ)

    def programs(self) -> dict[str, Program]:
        """Return every program by its name."""
        return {program.name: program for program in self.supervisor.processes()}

    def plan(self, config: Config) -> Plan:
        """Return what differs between the settings, and the code that is installed, and what
        runs."""
        programs, wanted = self.programs(), wanted_by(config)
        return Plan(
            added=[name for name in wanted if name not in programs],
            changed=[
                name
                for name, settings in wanted.items()
                if name in programs and self._is_program_behind(programs[name], settings)
            ],
            removed=[name for name in programs if is_ours(name) and name not in wanted],
            poller=POLLER in programs
            and self._is_program_behind(programs[POLLER], fingerprint.of_poller(config)),
        )

    def beat(self, name: str) -> Beat | None:
        """Return the heartbeat of a process that lives."""
        beat = heartbeat.read(self.home.beats / name)
        return beat if beat and heartbeat.is_alive(beat) else None

    def await_beats(self) -> None:
        """Wait for the first beat of each process that was just started: before it, nothing tells
        which settings the process has read, and it may not handle signals yet."""
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end:
            if all(self.beat(each.name) for each in self.programs().values() if each.pid):
                return
            time.sleep(STEP_S)

    def renew(self, name: str, number: signal.Signals) -> None:
        """Have a process apply the settings, unless an operator stopped it."""
        if number is signal.SIGTERM:
            self._let_start(name)
        if beat := self.beat(name):
            signals.send(beat.pid, beat.started, number)
        elif self.supervisor.process(name).is_given_up:
            self.supervisor.start(name)

    def signal_for_poller(self) -> signal.Signals:
        """Return by which signal it applies the settings, and takes up other code if there is any.

        One that is from before it could become its own successor drains, and is started anew.
        """
        beat = self.beat(POLLER)
        if beat is None or not self._is_old(beat):
            return signal.SIGHUP
        can = catches(beat.pid, signals.HAND_OVER)
        return signals.HAND_OVER if can else signal.SIGTERM

    def _let_start(self, name: str) -> None:
        """Wait until supervisord counts a program as running: a program that ends earlier counts as
        a failed start, and after four of those supervisord gives it up."""
        end = time.monotonic() + SETTLE_S
        while self.supervisor.process(name).state == "STARTING" and time.monotonic() < end:
            time.sleep(STEP_S)

    def remove(self, names: list[str]) -> None:
        """Drain workers, all at once, and remove them from supervisord."""
        for name in names:
            self.supervisor.stop_group(name)
        end = time.monotonic() + STOP_WAIT_S + 5
        for name in names:
            while self.supervisor.process(f"{name}:{name}").pid and time.monotonic() < end:
                time.sleep(STEP_S)
            self.supervisor.remove_group(name)

    def _is_program_behind(self, program: Program, settings: str) -> bool:
        beat = self.beat(program.name)
        if beat is None:
            return program.is_given_up
        return beat.settings != settings or self._is_old(beat)

    def is_behind(self, name: str, settings: str) -> bool:
        """Tell whether a process runs other settings or other code, or was given up."""
        return self._is_program_behind(self.supervisor.process(name), settings)

    def is_outdated(self, name: str) -> bool:
        """Tell whether a process lives that runs other code than is installed."""
        beat = self.beat(name)
        return beat is not None and self._is_old(beat)

    def _is_old(self, beat: Beat) -> bool:
        # What another installation has started, it starts again.
        return self._is_of_this_installation and beat.version != __version__


@contextmanager
def under(environ: Mapping[str, str]) -> Iterator[None]:
    """Run the block in the environment that the workers have."""
    ours = dict(os.environ)
    os.environ.clear()
    os.environ.update(environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(ours)


def wanted_by(config: Config) -> dict[str, str]:
    """Return the programs that settings ask for beside poller and watchdog, with fingerprints."""
    wanted = {
        name: fingerprint.of_worker(config, shard) for name, shard in config.instances().items()
    }
    return wanted | ({GATEWAY: fingerprint.of_gateway(config)} if config.gateway.enabled else {})


def is_ours(program: str) -> bool:
    """Tell whether it depends on the settings whether there is such a program."""
    return program == GATEWAY or program.startswith("worker-")


def environ_of(tree: Tree | None) -> Mapping[str, str]:
    """Return the environment by which settings are read: that of the home if it runs, or ours."""
    return tree.environ if tree else os.environ


def environ_of_process(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with."""
    try:
        with Path(f"/proc/{pid}/environ").open("rb") as file:
            data = file.read(_LARGEST_ENVIRON)
    except OSError as error:
        raise AutopollError(
            f"the environment of supervisord (process {pid}) cannot be read: {error.strerror}",
            "Run this as the user who started it.",
        ) from error
    pairs = (entry.partition(b"=") for entry in data.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
