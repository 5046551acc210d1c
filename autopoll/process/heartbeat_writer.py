"""The writer of a process's heartbeat, and the thread that beats beside its loop."""

import contextlib
import os
import threading
import time
from pathlib import Path
from types import TracebackType

import msgspec

from autopoll import __version__
from autopoll.clock import until_next
from autopoll.errors import AutopollError
from autopoll.process import heartbeat
from autopoll.process.atomic_record import Slots
from autopoll.process.heartbeat import Beat, ProcessState
from autopoll.process.proc_stat import boot_id, read_stat

_MAX_NOTE = 200  # bytes
_THREAD_S = 2.0  # between beats of the thread; a main loop that goes round beats for it meanwhile
_encode = msgspec.msgpack.Encoder().encode
# Looking a member up takes a quarter of a microsecond.
_IDLE, _BUSY = ProcessState.IDLE, ProcessState.BUSY


class Heart:
    """The writer; one per process, used as a context manager, safe to call from any thread."""

    @classmethod
    def open(cls, folder: Path, name: str, role: str, *, goes_on: bool = False) -> "Heart":
        """Start beating into `folder/name`, carrying on the counters of the incarnation before.

        `goes_on` where that was this very process, which has become another program.
        Raises AutopollError when the file cannot be made: no room, or something else in its place.
        """
        return cls(folder / name, role, goes_on)

    def __init__(self, path: Path, role: str, goes_on: bool = False) -> None:
        self._lock = threading.Lock()
        self._requests: dict[int, tuple[float, float]] = {}  # id -> (start, deadline)
        self._questions: dict[int, tuple[int, float]] = {}  # id -> (question, start)
        self._slots = Slots(path)
        before = heartbeat.decode(self._slots.previous)
        me = read_stat(os.getpid())
        assert me is not None
        now = time.monotonic()
        self._beat = Beat(
            name=path.name,
            role=role,
            pid=me.pid,
            started=me.started,
            boot_id=boot_id(),
            starts=before.starts + 1 if before else 1,
            crashed=0 if goes_on else _crashed(before),
            thread_beat=now,
            loop_beat=now,
            version=__version__[:64],
        )
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
        if error is not None:
            self.note = f"{type(error).__name__}: {error}"
        self.close(ProcessState.STOPPED if error is None else None)

    def close(self, state: ProcessState | None = ProcessState.STOPPED) -> None:
        """Stop beating and say that this end is meant; the file stays. Tolerated twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._thread.join()
        if state is not None:
            with self._lock:
                self._requests.clear()
                self._questions.clear()
                self._show_questions()
                self._show_due_first()
                self._put(state=state)
        self._slots.close()

    @property
    def name(self) -> str:
        """The name of the process, as supervisord knows it."""
        return self._beat.name

    @property
    def crashed(self) -> int:
        """The pid of the incarnation before this one, if it ended without saying so, or 0."""
        return self._beat.crashed

    @property
    def epoch(self) -> int:
        """The number that fences this incarnation's frames."""
        return self._beat.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._change(epoch=epoch)

    @property
    def note(self) -> str:
        """A short text for people: why it is held, what it waits for; cut at 200 bytes."""
        return self._beat.note

    @note.setter
    def note(self, note: str) -> None:
        fitting = note.encode("utf-8", "replace")[:_MAX_NOTE].decode("utf-8", "ignore")
        if fitting != self._beat.note:
            self._change(note=fitting)

    @property
    def settings(self) -> str:
        """The fingerprint of the settings that the process has taken up."""
        return self._beat.settings

    @settings.setter
    def settings(self, settings: str) -> None:
        self._change(settings=settings)

    @property
    def state(self) -> ProcessState:
        """What is shown; idle shows as busy while requests are in flight."""
        return self._beat.state

    @state.setter
    def state(self, state: ProcessState) -> None:
        with self._lock:
            if state is ProcessState.IDLE and self._requests:
                state = ProcessState.BUSY
            ready_at = self._beat.ready_at
            if ready_at is None and state in (ProcessState.IDLE, ProcessState.BUSY):
                ready_at = time.monotonic()
            self._put(state=state, ready_at=ready_at)

    def beat(self) -> None:
        """Show that the main loop goes round; cheap enough for every turn of it."""
        now = time.monotonic()
        self._change(loop_beat=now, thread_beat=now)

    def begin(self, request_id: int, deadline: float, question: int | None = None) -> None:
        """Declare work on a request that is due by `deadline` (CLOCK_MONOTONIC seconds).

        `question` is the number of the one that it asks.
        """
        with self._lock:
            now = time.monotonic()
            self._requests[request_id] = (now, deadline)
            if question is not None:
                self._questions[request_id] = (question, now)
                self._show_questions()
            beat = self._beat
            if beat.state is _IDLE:
                beat.state = _BUSY
            beat.loop_beat = beat.progressed_at = now
            if beat.request_deadline is None or deadline < beat.request_deadline:
                self._show_due_first()
            self._show()

    def cancel(self, request_id: int) -> None:
        """Declare a request due now: what goes on with it all the same is ended by the watchdog."""
        with self._lock:
            if request := self._requests.get(request_id):
                begun, deadline = request
                self._requests[request_id] = (begun, min(deadline, time.monotonic()))
                self._show_due_first()
                self._show()

    def progressed(self) -> None:
        """Count a step of the work."""
        with self._lock:
            self._beat.progress += 1
            self._beat.progressed_at = time.monotonic()
            self._show()

    def end(self, request_id: int, ok: bool) -> None:
        """Declare a request over, and count it."""
        with self._lock:
            self._requests.pop(request_id, None)
            if self._questions.pop(request_id, None):
                self._show_questions()
            beat = self._beat
            if beat.state is _BUSY and not self._requests:
                beat.state = _IDLE
            beat.loop_beat = time.monotonic()
            beat.done += ok
            beat.failed += not ok
            if beat.request_id == request_id:
                self._show_due_first()
            self._show()

    def count(self, *, done: int, failed: int) -> None:
        """Count pieces of work that had no deadline of their own."""
        with self._lock:
            self._put(
                loop_beat=time.monotonic(),
                done=self._beat.done + done,
                failed=self._beat.failed + failed,
            )

    def pipe_failed(self) -> None:
        """Count a link to another process that failed."""
        with self._lock:
            self._put(pipe_errors=self._beat.pipe_errors + 1)

    def _show_due_first(self) -> None:
        """Have the beat show the request with the earliest deadline."""
        beat, requests = self._beat, self._requests
        if requests:
            beat.request_id = min(requests, key=lambda each: requests[each][1])
            beat.request_start, beat.request_deadline = requests[beat.request_id]
        else:
            beat.request_id = beat.request_start = beat.request_deadline = None

    def _show_questions(self) -> None:
        self._beat.questions = list(self._questions.values())[: heartbeat.SHOWN]

    def _change(self, **fields: object) -> None:
        with self._lock:
            self._put(**fields)

    def _put(self, **fields: object) -> None:
        for name, value in fields.items():
            setattr(self._beat, name, value)
        self._show()

    def _show(self) -> None:
        self._slots.write(_encode(self._beat))

    def _keep_beating(self) -> None:
        while not self._closed.wait(until_next(_THREAD_S, time.monotonic())):
            with self._lock:
                if not self._slots.is_in_place():
                    # Without room the old file beats on unseen, and is not judged meanwhile.
                    with contextlib.suppress(AutopollError):
                        self._slots.put_back()
                self._put(thread_beat=time.monotonic())


def _crashed(before: Beat | None) -> int:
    """Return the pid of a predecessor that ended without saying so; a reboot ends every process."""
    if before is None or before.state.is_over or before.boot_id != boot_id():
        return 0
    return before.pid
