"""Two descriptors on the event loop: bytes out of one pipe, bytes into the other.

A stream socket does as well, under two descriptors of its own.

Raw descriptors with `add_reader` and `add_writer`. asyncio's own pipe transports do not fit: the
reading one closes at the first end of file, the writing one watches for reads.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from itertools import islice

from fifo.pipe import CAPACITY, Ends

CHUNK = 96 * 1024  # 64 KiB of payload come in one read; over 128 KiB are mapped afresh each time
_SMALL = 16 * 1024  # bytes of a payload that are copied behind its header, to be one buffer
_AT_ONCE = 256  # buffers in one writev; the kernel takes up to 1024


class Wire:
    """Both descriptors of one side; owns and closes them.

    `on_data` gets what was read; `on_lost` is called once, from the loop, when the peer is gone,
    after everything it had written was given to `on_data`. `on_emptied` is called when all is
    written that had waited for room. After `close` none of them is called.
    """

    def __init__(
        self,
        ends: Ends,
        *,
        on_data: Callable[[bytes], None],
        on_lost: Callable[[str], None],
        on_emptied: Callable[[], None] = lambda: None,
    ) -> None:
        self.buffered = 0  # bytes that wait for room in the pipe
        self.closed = False
        self._ends = ends
        self._on_data = on_data
        self._on_lost = on_lost
        self._on_emptied = on_emptied
        self._queue: deque[bytes | memoryview] = deque()
        self._sent_last = False  # something was written since the peer last sent anything
        self._pushing = False  # what is queued goes out at the end of this turn of the loop
        self._blocked = False  # the pipe is full; the loop calls `_write` when it is not
        self._broken = False  # the peer reads no more
        self._emptied = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(ends.reader, self._readable)

    def send(self, head: bytes, payload: bytes, last: bool = False) -> None:
        """Write now, or as soon as there is room; never blocks, never raises for a dead peer.

        The first frame after one of the peer's goes out at once, because the peer waits for it, and
        so does the `last`, which no other follows until the peer sends something. What comes in
        between goes out together, with the last or at the end of the loop's turn.
        """
        if self.closed or self._broken:
            return
        if self.buffered or len(payload) > _SMALL or (self._sent_last and not last):
            self._enqueue(head, payload, last)
            return
        self._sent_last = True
        data = head + payload
        try:
            written = os.write(self._ends.writer, data)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):  # `_write` meets it again
            written = 0
        if written != len(data):
            self.buffered = len(data) - written
            self._queue.append(data[written:])
            self._write()

    def _enqueue(self, head: bytes, payload: bytes, last: bool) -> None:
        self.buffered += len(head) + len(payload)
        self._queue += (head + payload,) if len(payload) <= _SMALL else (head, payload)
        if self._blocked:
            return
        if last or not self._sent_last:
            self._sent_last = True
            self._write()
        elif not self._pushing:
            self._pushing = True
            self._loop.call_soon(self.push)

    @property
    def ends(self) -> Ends:
        """The descriptors."""
        return self._ends

    @property
    def unsent(self) -> bytes:
        """What waits for room in the pipe."""
        return b"".join(self._queue)

    def push(self) -> None:
        """Write what waits for the end of the turn."""
        self._pushing = False
        if self._queue and not self._blocked:
            self._write()

    async def flush(self, seconds: float) -> None:
        """Wait until everything is in the pipe, the peer is gone, or the time is up."""
        self.push()
        self._emptied.clear()
        try:
            async with asyncio.timeout(seconds):
                while self.buffered:
                    await self._emptied.wait()
        except TimeoutError:
            return

    def finish(self, reason: str) -> None:
        """Give up the peer: read what it has left in the pipe, close, and call `on_lost`."""
        # Bounded, because a peer that is not dead at all could write as fast as we read.
        for _ in range(CAPACITY // CHUNK + 1):
            data = b"" if self.closed else self._read()
            if not data:
                break
            self._on_data(data)
        self._lose(reason)

    def close(self) -> None:
        """Write what the pipe takes at once, forget the rest, and close both descriptors."""
        if self.closed:
            return
        self.push()
        self.closed = True
        self._loop.remove_reader(self._ends.reader)
        self._forget()
        self._ends.close()

    def _readable(self) -> None:
        data = self._read()
        if data:
            self._sent_last = False
            self._on_data(data)
        elif data is not None:
            # Hang-up stays readable for ever (281,000 wake-ups in 0.2 s): stop listening at once.
            self._lose("it closed the pipe")

    def _read(self) -> bytes | None:
        """Return what is there, b"" at the end of file, None when there is nothing yet."""
        try:
            return os.read(self._ends.reader, CHUNK)
        except BlockingIOError:
            return None
        except ConnectionResetError:  # a socket's peer has left something of ours unread
            return b""

    def _lose(self, reason: str) -> None:
        if not self.closed:
            self.close()
            self._on_lost(reason)

    def _write(self) -> None:
        queue = self._queue
        try:
            written = os.writev(self._ends.writer, [*islice(queue, _AT_ONCE)])
        except BlockingIOError:
            written = 0
        except (BrokenPipeError, ConnectionResetError):
            # Not now: our owner may be in the middle of something, and the peer's bytes unread.
            self._broken = True
            self._forget()
            self._loop.call_soon(self.finish, "it stopped reading")
            return
        self.buffered -= written
        if not self.buffered:
            queue.clear()
            if self._blocked:
                self._unblock()
                self._on_emptied()
            return
        while written >= len(queue[0]):
            written -= len(queue.popleft())
        queue[0] = memoryview(queue[0])[written:]
        if not self._blocked:
            self._blocked = True
            self._loop.add_writer(self._ends.writer, self._write)

    def _unblock(self) -> None:
        self._blocked = False
        self._loop.remove_writer(self._ends.writer)
        self._emptied.set()

    def _forget(self) -> None:
        self._queue.clear()
        self.buffered = 0
        if self._blocked:
            self._unblock()
