"""Ends the processes that a child has started, whether or not the child still lives.

A grandchild is no child of ours: when its parent dies, no parent link leads to it any more. The
environment it was started with stays readable, so each child is given a mark to hand down.
"""

import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path

MARK = "AUTOPOLL_CHILD"
_STEP_S = 0.02  # between two polls where there are no pidfds
_ROUNDS = 3  # what forks faster than it is killed is left to the watchdog


def kill_descendants(mark: str, *, patience: float = 1.0) -> None:
    """Kill every process that carries the mark and wait until they are gone, `patience` seconds."""
    wanted = f"{MARK}={mark}".encode()
    if not _has_pidfds():
        _kill_by_number(wanted, patience)
        return
    until = time.monotonic() + patience
    for _ in range(_ROUNDS):
        found = [handle for pid in _pids() if (handle := _open_marked(pid, wanted)) is not None]
        try:
            for handle in found:
                _kill(handle)
            for handle in found:
                gone = select.poll()  # not select(), which takes no descriptor above 1023
                gone.register(handle, select.POLLIN)
                gone.poll(max(0.0, until - time.monotonic()) * 1000)
        finally:
            for handle in found:
                os.close(handle)
        if not found:
            return


def _has_pidfds() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an old kernel, or a filter around us
        return False
    return True


def _kill_by_number(wanted: bytes, patience: float) -> None:
    """Kill every process that carries the mark; a pid that was just read is hardly reused."""
    until = time.monotonic() + patience
    while found := [pid for pid in _pids() if _is_marked(pid, wanted)]:
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            return
        time.sleep(_STEP_S)


def _is_marked(pid: int, wanted: bytes) -> bool:
    try:
        return _carries(pid, wanted)
    except OSError:  # gone, or another user's
        return False


def _pids() -> list[int]:
    names = os.listdir("/proc")  # noqa: PTH208 - thousands of Paths would cost more
    return [int(name) for name in names if name.isdigit() and int(name) != os.getpid()]


def _open_marked(pid: int, wanted: bytes) -> int | None:
    """Return a pidfd of the process if it carries the mark and lives, else None."""
    try:
        if not _carries(pid, wanted):
            return None
        handle = os.pidfd_open(pid)
    except OSError:  # gone, or another user's
        return None
    try:
        # Again, now that the pidfd holds this very process: the number may have a new owner.
        if _carries(pid, wanted):
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


def _carries(pid: int, wanted: bytes) -> bool:
    # A zombie's environment reads as empty, so that what has ended is never found.
    return wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def _kill(handle: int) -> None:
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
