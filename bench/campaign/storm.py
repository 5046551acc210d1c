"""What strikes during the campaign: one random fault after the other, some of which must be undone.

Everything random comes from one generator, so that a seed brings back the same faults in the same
order; what they meet depends on the scheduler.
"""

import heapq
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil

from autopoll.errors import AutopollError
from autopoll.ops.selftest.scratch_home import Scratch

LONG_S = 2.0  # of a full disk, a locked database, a foreign file in the place of a pipe
STOPPED_S = (0.2, 6.0)  # some go on before anybody notices, some do not
UP_WITHIN_S = 90.0
CONTROL = "nothing"
LOCKER = """
import sys, time, apsw
db = apsw.Connection(sys.argv[1])
db.set_busy_timeout(5000)
db.execute("BEGIN IMMEDIATE")
time.sleep(float(sys.argv[2]))
db.execute("ROLLBACK")
"""


@dataclass(frozen=True)
class Fault:
    """Something that was done, and when (wall-clock milliseconds)."""

    kind: str
    at: int


class Storm:
    """Strikes one home."""

    def __init__(self, scratch: Scratch, seed: int, disk: "SmallDisk | NoRoom") -> None:
        self.scratch = scratch
        self.home = scratch.home
        self.chance = random.Random(seed)
        self.disk = disk
        self.faults: list[Fault] = []
        self.undoing: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.lockers: list[subprocess.Popen[bytes]] = []
        self.kinds: dict[Callable[[], str], int] = {
            self.kill: 30,
            self.stop: 20,
            self.terminate: 10,
            self.remove_a_pipe: 8,
            self.replace_a_pipe: 6,
            self.fill_the_disk: 4,
            self.lock_the_database: 4,
            self.strike_supervisord: 4,
            self.do_nothing: 14,
        }

    def strike(self) -> None:
        """Undo what is due, and do one thing more."""
        self.undo(time.monotonic())
        [what] = self.chance.choices(list(self.kinds), list(self.kinds.values()))
        at = time.time_ns() // 1_000_000
        self.faults.append(Fault(what(), at))

    def undo(self, now: float = float("inf")) -> None:
        """Undo what has lasted long enough; without a time, everything."""
        while self.undoing and self.undoing[0][0] <= now:
            heapq.heappop(self.undoing)[2]()

    # --- the faults; each returns what it did

    def kill(self) -> str:
        return self.signal(signal.SIGKILL, self.victim())

    def terminate(self) -> str:
        return self.signal(signal.SIGTERM, self.victim())

    def stop(self) -> str:
        victim = self.victim()
        self.later(self.chance.uniform(*STOPPED_S), lambda: self.signal(signal.SIGCONT, victim))
        return self.signal(signal.SIGSTOP, victim)

    def strike_supervisord(self) -> str:
        """Stop supervisord for a while, or end it, after which an operator starts it again."""
        number = self.chance.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP))
        self.scratch.signal(number)
        if number is signal.SIGSTOP:
            self.later(LONG_S, lambda: self.scratch.signal(signal.SIGCONT))
        else:
            self.bring_up()
        return f"{_short(number)} supervisord"

    def remove_a_pipe(self) -> str:
        path = self.pipe()
        if path:
            path.unlink(missing_ok=True)
        return "pipe removed"

    def replace_a_pipe(self) -> str:
        """Put a file where a pipe was; what is foreign is left alone until it is gone again."""
        path = self.pipe()
        if path:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # the disk may be full
                path.touch()
            self.later(LONG_S, lambda: _remove_file(path))
        return "pipe replaced"

    def fill_the_disk(self) -> str:
        self.disk.fill()
        self.later(LONG_S, self.disk.clear)
        return "disk full"

    def lock_the_database(self) -> str:
        """Hold the write lock, as a process of its own; within one, locks undo each other."""
        database = str(self.home.var / "bridge.db")
        self.lockers.append(subprocess.Popen([sys.executable, "-c", LOCKER, database, str(LONG_S)]))
        return "database locked"

    def do_nothing(self) -> str:
        """For comparison."""
        return CONTROL

    # --- what they need

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.undoing, (time.monotonic() + seconds, next(self.order), action))

    def victim(self) -> psutil.Process | None:
        """Return any process of the tree, children and grandchildren of backends among them."""
        found = sorted(self.scratch.processes(), key=lambda each: each.pid)
        if not found:
            return None
        try:
            return psutil.Process(self.chance.choice(found).pid)
        except psutil.NoSuchProcess:
            return None

    def signal(self, number: signal.Signals, victim: psutil.Process | None) -> str:
        """Signal a process, unless it is gone or another has its number; return what was done."""
        name = role(victim) if victim else "nobody"
        with suppress(psutil.NoSuchProcess):
            if victim:
                victim.send_signal(number)
        return f"{_short(number)} {name}"

    def pipe(self) -> Path | None:
        """Return any pipe of the home."""
        found = sorted(path for path in self.home.run.rglob("*.fifo") if path.is_fifo())
        return self.chance.choice(found) if found else None

    def bring_up(self) -> None:
        """Start the home as an operator would, again and again while it cannot be."""
        end = time.monotonic() + UP_WITHIN_S
        while True:
            self.undo(time.monotonic())
            try:
                if not self.scratch.is_up:
                    self.scratch.up(lambda _: None)
                    return
            except AutopollError as error:
                print(f"  up: {error.what}", file=sys.stderr)
            if time.monotonic() > end:
                raise TimeoutError(f"the home was not up again within {UP_WITHIN_S:.0f} s")
            time.sleep(0.05)

    def calm(self) -> None:
        """Undo everything that lasts."""
        self.undo()
        for locker in self.lockers:
            locker.wait()


class SmallDisk:
    """A file system of its own for the home, which a file can fill."""

    def __init__(self, folder: Path) -> None:
        self.filler = folder / "filler"
        self.what = (
            f"tmpfs of {os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize >> 20} MiB"
        )

    def fill(self) -> None:
        with self.filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                with suppress(OSError):  # until there is no room
                    while True:
                        file.write(bytes(size))

    def clear(self) -> None:
        self.filler.unlink(missing_ok=True)


class NoRoom:
    """No process of the tree may write to a file: what is left without the right to mount."""

    what = "RLIMIT_FSIZE, because nothing can be mounted here"

    def __init__(self, scratch: Scratch) -> None:
        self.scratch = scratch

    def fill(self) -> None:
        self._limit(0)

    def clear(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, soft: int) -> None:
        for process in [*self.scratch.processes()]:
            with suppress(ProcessLookupError):
                _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))


def role(process: psutil.Process) -> str:
    """Return what a process of the tree is, by its command line."""
    try:
        words = process.cmdline()
    except psutil.NoSuchProcess:
        return "nobody"
    named = [word for word in words if word in ("poller", "worker", "watchdog")]
    return named[0] if named and any("autopoll" in word for word in words) else "backend child"


def _remove_file(path: Path) -> None:
    if path.is_file():
        path.unlink()


def _short(number: signal.Signals) -> str:
    return number.name.removeprefix("SIG")
