"""Signs of life: one small file per process, written by it in place, read by all others.

Two beats tell two failures apart. The *loop beat* comes from the main loop itself and goes stale
when the loop is stuck; the *thread beat* comes from a thread beside it, too, and goes stale only
when the whole process is stuck. A process cannot be judged by its CPU time: a deadlock, a lost
reply and a slow model all look the same from outside. So work declares its deadline here.

Times are CLOCK_MONOTONIC seconds and mean nothing after a reboot; the boot id says which boot.
"""

import os
from enum import StrEnum
from pathlib import Path

import msgspec

from autopoll.process import atomic_record
from autopoll.process.proc_stat import boot_id, read_stat
from autopoll.process.signals import is_ready, open_process


class ProcessState(StrEnum):
    """What a process says it is doing."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"  # with at least one request
    DRAINING = "draining"  # takes nothing new
    HELD = "held"  # alive but kept from working; the note says why
    STOPPED = "stopped"  # ended of its own will
    RETIRED = "retired"  # ended to be started again; the note says why

    @property
    def is_over(self) -> bool:
        """Whether the process meant to end."""
        return self in (ProcessState.STOPPED, ProcessState.RETIRED)


READY = (ProcessState.IDLE, ProcessState.BUSY)  # able to do what the process is there for
SHOWN = 16  # questions in a beat, the oldest; a record has little room


class Beat(msgspec.Struct, kw_only=True, array_like=True):
    """One reading of a heartbeat file; the writer's own is changed in place, with each question."""

    name: str
    role: str
    pid: int
    started: int  # field 22 of /proc/<pid>/stat, in ticks: with the pid it names the process
    boot_id: str
    epoch: int = 0
    starts: int = 1  # incarnations since the file was made
    crashed: int = 0  # pid of the incarnation before this one, if it ended without saying so
    state: ProcessState = ProcessState.STARTING
    thread_beat: float = 0.0
    loop_beat: float = 0.0
    ready_at: float | None = None  # when this incarnation first became idle
    request_id: int | None = None  # of all requests in flight, the one due first
    request_start: float | None = None
    request_deadline: float | None = None
    progress: int = 0
    done: int = 0
    failed: int = 0
    note: str = ""
    progressed_at: float = 0.0  # of all requests in flight, the last step, or the last begin
    settings: str = ""  # fingerprint of the settings it runs with
    pipe_errors: int = 0  # of the poller: links that failed it
    questions: list[tuple[int, float]] = []  # that are begun, and since when; at most SHOWN
    version: str = ""  # of the code that it runs; empty before versions were noted

    def is_of_same_process(self, other: "Beat") -> bool:
        """Tell whether the same incarnation wrote both."""
        return (self.pid, self.started) == (other.pid, other.started)


def read(path: Path | str) -> Beat | None:
    """Return the newest beat in the file; None when there is no file, or it holds none."""
    return decode(atomic_record.read(path))


def read_all(folder: Path) -> list[Beat]:
    """Return the beats of a folder in the order of their names, skipping whatever is none."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - a Path per name per second costs more
    except FileNotFoundError:
        return []
    return [beat for name in names if (beat := read(f"{folder}/{name}")) is not None]


def is_alive(beat: Beat) -> bool:
    """Tell whether the very process that wrote the beat still lives.

    A leader that has ended reads "zombie" while other threads of it live on; such a process is
    alive, and its pidfd knows.
    """
    if beat.boot_id != boot_id():
        return False
    reading = read_stat(beat.pid)
    if reading is None or reading.started != beat.started:
        return False
    if reading.state not in "ZX":
        return True
    descriptor = open_process(beat.pid, beat.started)
    if descriptor is None:
        return False
    try:
        return not is_ready(descriptor)
    finally:
        os.close(descriptor)


def decode(record: bytes | None) -> Beat | None:
    """Return the beat that a record holds; None when there is none, or one of another version."""
    if record is None:
        return None
    try:
        return msgspec.msgpack.decode(record, type=Beat)
    except msgspec.MsgspecError:
        return None
