"""supervisord: whether it runs and answers, what it has given up, and who holds the locks."""

import os
import time
from collections.abc import Iterator

from autopoll.errors import Exit
from autopoll.home.lock import holder_and_words
from autopoll.ops.doctor.findings import DoctorFinding, degraded, failed, good, unknown
from autopoll.ops.doctor.subject import Subject
from autopoll.ops.supervisord_state import SupervisordState
from autopoll.process.proc_stat import read_stat


def look(subject: Subject) -> Iterator[DoctorFinding]:
    """Look at supervisord and its locks."""
    now = subject.status
    if now is None:
        yield unknown("supervisord", "not looked at, as what comes before is broken")
        return
    why = "; ".join(now.problems)
    match SupervisordState(now.supervisord):
        case SupervisordState.RUNNING:
            yield good("supervisord", f"is running as process {subject.supervisord}")
        case SupervisordState.HUNG:
            mend = "Restart everything: autopoll restart"
            yield failed("supervisord", f"is hung: {why}", mend, Exit.UNREACHABLE)
        case SupervisordState.STARTING:
            yield degraded("supervisord", f"is starting: {why}", "Wait for it: autopoll status")
        case SupervisordState.STOPPING:
            yield failed("supervisord", f"is going down: {why}", "When it is: autopoll up")
        case SupervisordState.DOWN:
            yield failed("supervisord", "is not running", "Start it: autopoll up")
    yield from _look_at_locks(subject)


def _look_at_locks(subject: Subject) -> Iterator[DoctorFinding]:
    """Name who holds which lock; what is held is never stale, as the kernel frees it."""
    held = []
    try:
        paths = sorted(subject.home.locks.glob("*.lock"))
    except OSError:
        return
    for path in (subject.home.change_lock, *paths):
        try:
            pid, words = holder_and_words(path)
        except OSError as error:
            yield unknown("locks", f"{path}: {error.strerror}")
            continue
        if pid is None:
            continue
        held.append(f"{path.stem} by process {pid}{_age(pid)}{f' ({words})' if words else ''}")
    if held:
        yield good("locks", "; ".join(dict.fromkeys(held)))


def _age(pid: int) -> str:
    """Return since when a process runs, which with the pid names it for good."""
    reading = read_stat(pid)
    if reading is None:
        return ""
    ticks = os.sysconf("SC_CLK_TCK")
    return f", {time.clock_gettime(time.CLOCK_BOOTTIME) - reading.started / ticks:.0f} s old"
