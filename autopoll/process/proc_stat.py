"""What the kernel says of a process, read from /proc in one go; nothing here is cached."""

import functools
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcStat(msgspec.Struct, frozen=True):
    """One reading of /proc/<pid>/stat."""

    pid: int
    name: str  # of the executable, 15 bytes at most
    state: str  # R S D T t Z X …, of the thread-group leader
    parent: int
    group: int
    threads: int
    cpu_s: float
    started: int  # ticks since boot; with the pid it names a process for good
    rss_bytes: int

    @property
    def age_s(self) -> float:
        """Seconds since it was started, those of a suspended machine included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.started * _TICK

    @property
    def stopped(self) -> bool:
        """Whether job control holds it still; being traced ("t") is an operator's business."""
        return self.state == "T"

    @property
    def blocked(self) -> bool:
        """Whether it is in uninterruptible sleep, where no signal reaches it, or only KILL."""
        return self.state == "D"

    @property
    def zombie(self) -> bool:
        """Whether it has ended and is not reaped; a leader whose other threads live has not."""
        return self.state in "ZX" and self.threads <= 1


def read_stat(pid: int) -> ProcStat | None:
    """Return a reading of the process; None when there is none, or it is hidden from us."""
    try:
        line = _read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # hidepid hides other users'
        return None
    # The command stands in parentheses and may hold any byte, so the fields count from the last.
    end = line.rindex(b")")
    fields = line[end + 2 :].split()
    return ProcStat(
        pid=pid,
        name=line[line.index(b"(") + 1 : end].decode("utf-8", "replace"),
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        threads=int(fields[17]),
        cpu_s=(int(fields[11]) + int(fields[12])) * _TICK,
        started=int(fields[19]),
        rss_bytes=int(fields[21]) * _PAGE,
    )


def _read(path: str) -> bytes:
    """Return a file of /proc that is less than a page.

    By descriptor, which takes 9 us where Path.read_bytes takes 26: the watchdog reads hundreds.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def all_pids() -> set[int]:
    """Return the number of every process there is."""
    names = os.listdir("/proc")  # noqa: PTH208 - thousands of Paths would cost more
    return {int(name) for name in names if name.isdigit()}


def all_stats(pids: Iterable[int] | None = None) -> list[ProcStat]:
    """Return a reading of every process there is, or of those with these numbers."""
    wanted = all_pids() if pids is None else pids
    return [each for pid in wanted if (each := read_stat(pid)) is not None]


@functools.cache
def boot_id() -> str:
    """Return the id of this boot: monotonic times and start times of another mean nothing here."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # hidden in some sandboxes; then a reboot is known by start times alone
        return ""


def catches(pid: int, number: signal.Signals) -> bool:
    """Tell whether the process has a handler for the signal, so that it will not die of it."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    mask = next((line for line in text.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)
