"""Signs of life: one small file per process, written by it in place and read by everyone.

The file holds two slots, written in turn, each a whole record with a sequence number and a
checksum; the newest slot whose checksum holds counts. So a reader never sees half a record, and a
writer that is killed or stopped in the middle of one leaves the one before it readable, which a
single sequence lock would not.

Two beats tell two failures apart. The *loop beat* comes from the main loop itself and goes stale
when the loop is stuck; the *thread beat* comes from a thread of its own and goes stale when the
whole process is. A process cannot be judged by its CPU time: a deadlock, a lost reply and a slow
model all look the same from outside. So work declares its deadline here.

Times are CLOCK_MONOTONIC seconds and mean nothing after a reboot; the boot id says which boot.
"""

import contextlib
import errno
import mmap
import os
import stat
import struct
import threading
import time
import zlib
from enum import StrEnum
from pathlib import Path
from types import TracebackType

import msgspec

from autopoll.errors import AutopollError
from autopoll.process.signals import is_ready, open_process
from autopoll.process.vitals import boot_id, vitals

_MAGIC = b"apbeat01"
_RECORD = struct.Struct("<8sQ 36s16s12s IQQQI ddd qdd QQQ 200s")
_CHECKSUM = struct.Struct("<I")
_LENGTH = _RECORD.size + _CHECKSUM.size
_SLOT = 512
_SIZE = 2 * _SLOT
_NEVER = -1.0
_UNREADABLE = {
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM,
}  # fmt: skip


class State(StrEnum):
    """What a process says it is doing."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"  # with at least one request
    DRAINING = "draining"  # takes nothing new
    HELD = "held"  # alive but kept from working; the note says why
    STOPPED = "stopped"  # ended of its own will


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of a heartbeat file."""

    name: str
    role: str
    pid: int
    started: int  # field 22 of /proc/<pid>/stat, in ticks: with the pid it names the process
    boot_id: str
    epoch: int = 0
    starts: int = 1  # incarnations since the file was made
    crashed: int = 0  # pid of the incarnation before this one, if it ended without saying so
    state: State = State.STARTING
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


class Heart:
    """The writer; one per process, used as a context manager, safe to call from any thread."""

    @classmethod
    def open(cls, folder: Path, name: str, role: str) -> "Heart":
        """Start beating into `folder/name`, carrying on the counters of the incarnation before.

        Raises AutopollError when the file cannot be made: no room, or something else in its place.
        """
        return cls(folder / name, role)

    def __init__(self, path: Path, role: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._requests: dict[int, tuple[float, float]] = {}  # id -> (start, deadline)
        self._sequence, before = _read(path) or (0, None)
        me = vitals(os.getpid())
        assert me is not None
        now = time.monotonic()
        self._beat = Beat(
            name=path.name,
            role=role,
            pid=me.pid,
            started=me.started,
            boot_id=boot_id(),
            starts=before.starts + 1 if before else 1,
            crashed=_crashed(before),
            thread_beat=now,
            loop_beat=now,
        )
        self._map, self._inode = _map_file(path)
        self._change()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="heart", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Heart":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # An end by an error is not one that was meant: leave the state, and it counts as a crash.
        self.close(State.STOPPED if error is None else None)

    def close(self, state: State | None = State.STOPPED) -> None:
        """Stop beating and say that this end is meant; the file stays. Tolerated twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._thread.join()
        if state is not None:
            self._requests.clear()
            self._change(state=state, **self._due_first())
        self._map.close()

    @property
    def epoch(self) -> int:
        """The number that fences this incarnation's frames."""
        return self._beat.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._change(epoch=epoch)

    @property
    def note(self) -> str:
        """A short text for people: why it is held, what it waits for. Cut at 200 bytes."""
        return self._beat.note

    @note.setter
    def note(self, note: str) -> None:
        if note != self._beat.note:
            self._change(note=note)

    @property
    def state(self) -> State:
        """What is shown; idle shows as busy while requests are in flight."""
        return self._beat.state

    @state.setter
    def state(self, state: State) -> None:
        with self._lock:
            if state is State.IDLE and self._requests:
                state = State.BUSY
            ready_at = self._beat.ready_at
            if ready_at is None and state in (State.IDLE, State.BUSY):
                ready_at = time.monotonic()
            self._put(state=state, ready_at=ready_at)

    def beat(self) -> None:
        """Show that the main loop goes round; cheap enough for every turn of it."""
        self._change(loop_beat=time.monotonic())

    def begin(self, request_id: int, deadline: float) -> None:
        """Declare work on a request that is due by `deadline` (CLOCK_MONOTONIC seconds)."""
        with self._lock:
            now = time.monotonic()
            self._requests[request_id] = (now, deadline)
            idle = self._beat.state is State.IDLE
            self._put(
                state=State.BUSY if idle else self._beat.state,
                loop_beat=now,
                **self._due_first(),
            )

    def progressed(self) -> None:
        """Count a step of the work."""
        with self._lock:
            self._put(progress=self._beat.progress + 1)

    def end(self, request_id: int, ok: bool) -> None:
        """Declare a request over, and count it."""
        with self._lock:
            self._requests.pop(request_id, None)
            over = self._beat.state is State.BUSY and not self._requests
            self._put(
                state=State.IDLE if over else self._beat.state,
                loop_beat=time.monotonic(),
                done=self._beat.done + ok,
                failed=self._beat.failed + (not ok),
                **self._due_first(),
            )

    def count(self, ok: bool) -> None:
        """Count a piece of work that had no deadline of its own."""
        with self._lock:
            self._put(done=self._beat.done + ok, failed=self._beat.failed + (not ok))

    def _due_first(self) -> dict[str, int | float | None]:
        """Return the fields that show the request with the earliest deadline."""
        if not self._requests:
            return {"request_id": None, "request_start": None, "request_deadline": None}
        request_id = min(self._requests, key=lambda each: self._requests[each][1])
        start, deadline = self._requests[request_id]
        return {"request_id": request_id, "request_start": start, "request_deadline": deadline}

    def _change(self, **fields: object) -> None:
        with self._lock:
            self._put(**fields)

    def _put(self, **fields: object) -> None:
        """Write the next record into the slot that readers do not hold to be the newest."""
        self._beat = msgspec.structs.replace(self._beat, **fields)
        self._sequence += 1
        record = _pack(self._sequence, self._beat)
        at = self._sequence % 2 * _SLOT
        self._map[at : at + _LENGTH] = record

    def _keep_beating(self) -> None:
        while not self._closed.wait(1.0):
            with self._lock:
                self._return_to_its_place()
                self._put(thread_beat=time.monotonic())

    def _return_to_its_place(self) -> None:
        """Make the file anew when somebody deleted or replaced it, or nobody sees us beat."""
        try:
            if self._path.stat(follow_symlinks=False).st_ino == self._inode:
                return
        except FileNotFoundError:
            pass
        # Until there is room again the old file beats on, unseen: the watchdog judges nothing then.
        with contextlib.suppress(AutopollError):
            old, (self._map, self._inode) = self._map, _map_file(self._path)
            old.close()


def read(path: Path) -> Beat | None:
    """Return the newest whole record of the file; None when there is no file, or it has none."""
    found = _read(path)
    return found[1] if found else None


def read_all(folder: Path) -> list[Beat]:
    """Return the beats of a folder in the order of their names, skipping whatever is none."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - a Path per name per second costs more
    except FileNotFoundError:
        return []
    return [beat for name in names if (beat := read(folder / name)) is not None]


def is_alive(beat: Beat) -> bool:
    """Tell whether the very process that wrote the beat still lives.

    A leader that has ended reads "zombie" while other threads of it live on; such a process is
    alive, and its pidfd knows.
    """
    if beat.boot_id != boot_id():
        return False
    reading = vitals(beat.pid)
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


def _map_file(path: Path) -> tuple[mmap.mmap, int]:
    """Return the file, made if need be and private, as writable memory, and its inode."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise AutopollError(f"{path} cannot be written: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise AutopollError(f"{path} is no heartbeat file", "Remove what lies there.")
        os.fchmod(descriptor, 0o600)
        # Memory over a hole would end the process with SIGBUS when the disk is full.
        os.posix_fallocate(descriptor, 0, _SIZE)
        return mmap.mmap(descriptor, _SIZE), found.st_ino
    except OSError as error:
        raise AutopollError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _read(path: Path) -> tuple[int, Beat] | None:
    """Return the newest whole record and its sequence number."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in _UNREADABLE:
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        for _ in range(10):  # both slots are torn only if the writer went round while we copied
            data = os.pread(descriptor, _SIZE, 0)
            slots = (_unpack(data[:_LENGTH], path.name), _unpack(data[_SLOT:], path.name))
            whole = [slot for slot in slots if slot is not None]
            if whole:
                return max(whole, key=lambda slot: slot[0])
        return None
    finally:
        os.close(descriptor)


def _pack(sequence: int, beat: Beat) -> bytes:
    record = _RECORD.pack(
        _MAGIC,
        sequence,
        beat.boot_id.encode(),
        beat.role.encode(),
        beat.state.encode(),
        beat.pid,
        beat.started,
        beat.epoch,
        beat.starts,
        beat.crashed,
        beat.thread_beat,
        beat.loop_beat,
        _NEVER if beat.ready_at is None else beat.ready_at,
        -1 if beat.request_id is None else beat.request_id,
        _NEVER if beat.request_start is None else beat.request_start,
        _NEVER if beat.request_deadline is None else beat.request_deadline,
        beat.progress,
        beat.done,
        beat.failed,
        beat.note.encode("utf-8", "replace"),
    )
    return record + _CHECKSUM.pack(zlib.crc32(record))


def _unpack(data: bytes, name: str) -> tuple[int, Beat] | None:
    """Return what `_pack` packed, or None for anything else."""
    record, checksum = data[: _RECORD.size], data[_RECORD.size : _LENGTH]
    if len(checksum) != _CHECKSUM.size or _CHECKSUM.unpack(checksum)[0] != zlib.crc32(record):
        return None
    (
        magic, sequence, boot, role, state,
        pid, started, epoch, starts, crashed,
        thread_beat, loop_beat, ready_at,
        request_id, request_start, request_deadline,
        progress, done, failed, note,
    ) = _RECORD.unpack(record)  # fmt: skip
    if magic != _MAGIC:
        return None
    return sequence, Beat(
        name=name,
        role=_text(role),
        pid=pid,
        started=started,
        boot_id=_text(boot),
        epoch=epoch,
        starts=starts,
        crashed=crashed,
        state=State(_text(state)),
        thread_beat=thread_beat,
        loop_beat=loop_beat,
        ready_at=_time(ready_at),
        request_id=None if request_id < 0 else request_id,
        request_start=_time(request_start),
        request_deadline=_time(request_deadline),
        progress=progress,
        done=done,
        failed=failed,
        note=_text(note),
    )


def _crashed(before: Beat | None) -> int:
    """Return the pid of a predecessor that ended without saying so; a reboot ends everyone."""
    if before is None or before.state is State.STOPPED or before.boot_id != boot_id():
        return 0
    return before.pid


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("utf-8", "ignore")


def _time(field: float) -> float | None:
    return None if field == _NEVER else field
