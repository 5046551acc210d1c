"""What a process has used so far, as the kernel counts it."""

import time
from pathlib import Path

import msgspec

from autopoll.process.proc_stat import read_stat

_SWITCHES = "voluntary_ctxt_switches:"


class Upkeep(msgspec.Struct, frozen=True, kw_only=True):
    """One reading; `wakeups` counts how often each thread (by its id) gave up the CPU to wait."""

    cpu_s: float
    wakeups: dict[int, int]
    resident_bytes: int

    def wakeups_since(self, before: "Upkeep") -> int:
        """Return how often its threads slept and woke; of one that has ended, nothing is known."""
        return sum(count - before.wakeups.get(tid, 0) for tid, count in self.wakeups.items())


def upkeep(pid: int) -> Upkeep:
    """Take a reading of a process that lives; raise ProcessLookupError when it does not."""
    reading = read_stat(pid)
    if reading is None:
        raise ProcessLookupError(f"process {pid} has ended")
    return Upkeep(
        cpu_s=time.clock_gettime(_cpu_clock(pid)),
        wakeups=dict(_wakeups(pid)),
        resident_bytes=reading.rss_bytes,
    )


def _cpu_clock(pid: int) -> int:
    """Return the number of the clock that counts a process's CPU time, as clock_getcpuclockid(3).

    It counts nanoseconds and keeps those of threads that ended; /proc has hundredths of a second,
    of which an idle minute has a dozen.
    """
    return ~pid << 3 | 2


def _wakeups(pid: int) -> list[tuple[int, int]]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            lines = (task / "status").read_text("utf-8", "replace").splitlines()
        except (FileNotFoundError, ProcessLookupError):  # it ended since it was listed
            continue
        count = next(line for line in lines if line.startswith(_SWITCHES))
        found.append((int(task.name), int(count.removeprefix(_SWITCHES))))
    return found
