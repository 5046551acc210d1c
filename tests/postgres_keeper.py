"""Ends a PostgreSQL server of the tests and removes its folder, when its owner says so or is gone.

A process of its own, because nothing else can clean up after tests that were killed. It needs the
standard library alone: python -I postgres_keeper.py FOLDER.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

DATA = "data"
LOCK = "postmaster.pid"  # line 1: the process; line 7: key and number of its shared memory
ENDS_WITHIN_S = 5.0
IPC_RMID = 0


def processes(folder: Path) -> list[int]:
    """Return the processes of a server: they work in its folder. The parent of all comes first."""
    first, found = postmaster(folder), []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                cwd = os.readlink(each / "cwd")
            except OSError:  # it has ended, or is another user's
                continue
            if Path(cwd).is_relative_to(folder):
                found.append(int(each.name))
    return sorted(found, key=lambda pid: (pid != first, pid))


def postmaster(folder: Path) -> int | None:
    """Return the first process of a server as its lock names it, None where there is no lock."""
    try:
        return int((folder / DATA / LOCK).read_text().split()[0])
    except (OSError, IndexError):
        return None


def strike(folder: Path, number: signal.Signals) -> None:
    """Send a signal to every process of a server, also to those that are started meanwhile."""
    struck: set[int] = set()
    while new := [pid for pid in processes(folder) if pid not in struck]:
        for pid in new:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        struck.update(new)


def remove(folder: Path) -> None:
    """End a server, frozen or not, and remove its folder and its shared memory."""
    strike(folder, signal.SIGCONT)
    running = processes(folder)
    if running:
        os.kill(running[0], signal.SIGQUIT)  # immediate, yet it removes its shared memory
    end = time.monotonic() + ENDS_WITHIN_S
    while processes(folder) and time.monotonic() < end:
        time.sleep(0.02)
    strike(folder, signal.SIGKILL)
    _remove_shared_memory(folder / DATA / LOCK)
    shutil.rmtree(folder)


def _remove_shared_memory(lock: Path) -> None:
    """Remove the segment of a server that was killed; one that has ended left no lock."""
    try:
        _key, number = lock.read_text().splitlines()[6].split()
    except (OSError, IndexError, ValueError):
        return
    ctypes.CDLL(None).shmctl(int(number), IPC_RMID, None)


def main() -> None:
    owner = os.getppid()
    # The pipe alone would not do: what the owner has forked holds it open beyond its end.
    while os.getppid() == owner:
        if select.select([0], [], [], 0.5)[0]:
            break
    remove(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
