"""Two descriptors on the event loop: bytes out of one pipe, bytes into the other.

Raw descriptors with `add_reader` and `add_writer`. asyncio's own pipe transports do not fit: the
reading one closes at the first end of file, the writing one watches for reads.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from itertools import islice

from fifo.pipe import CAPACITY, Ends

CHUNK = 64 * 1024
_AT_ONCE = 64  # buffers in one writev; the kernel's limit is 1024


class Wire:
    """Both descriptors of one side; owns and closes them.

    `on_data` gets what was read; `on_lost` is called once, from the loop, when the peer is gone,
    after everything it had written was given to `on_data`. After `close` neither is called.
    """

    def __init__(
        self, ends: Ends, *, on_data: Callable[[bytes], None], on_lost: Callable[[str], None]
    ) -> None:
        self.buffered = 0  # bytes that wait for room in the pipe
        self.closed = False
        self._ends = ends
        self._on_data = on_data
        self._on_lost = on_lost
        self._queue: deque[memoryview] = deque()
        self._turn_taken = False  # something was written in this turn of the loop
        self._blocked = False  # the pipe is full, and the loop tells us when it is not
        self._broken = False  # the peer reads no more
        self._emptied = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(ends.reader, self._readable)

    def send(self, data: bytes) -> None:
        """Write now, or as soon as there is room; never blocks, never raises for a dead peer.

        The first frame in a turn of the loop goes out at once, because the peer waits for it. What
        else is sent in the same turn goes out together at the end of it.
        """
        if self.closed or self._broken:
            return
        self._queue.append(memoryview(data))
        self.buffered += len(data)
        if self._blocked or self._turn_taken:
            return
        self._turn_taken = True
        self._loop.call_soon(self.push)
        self._write()

    def push(self) -> None:
        """Write what waits for the end of the turn."""
        self._turn_taken = False
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
        self._loop.remove_writer(self._ends.writer)
        self._forget()
        self._ends.close()

    def _readable(self) -> None:
        data = self._read()
        if data:
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

    def _lose(self, reason: str) -> None:
        if not self.closed:
            self.close()
            self._on_lost(reason)

    def _write(self) -> None:
        try:
            written = os.writev(self._ends.writer, list(islice(self._queue, _AT_ONCE)))
        except BlockingIOError:
            written = 0
        except BrokenPipeError:
            # Not now: our owner may be in the middle of something. Its last words may be unread.
            self._broken = True
            self._unblock()
            self._forget()
            self._loop.call_soon(self.finish, "it stopped reading")
            return
        self.buffered -= written
        while written:
            head = self._queue.popleft()
            if written < len(head):
                self._queue.appendleft(head[written:])
                break
            written -= len(head)
        if self._queue and not self._blocked:
            self._blocked = True
            self._loop.add_writer(self._ends.writer, self._write)
        elif not self._queue:
            self._unblock()
            self._emptied.set()

    def _unblock(self) -> None:
        if self._blocked:
            self._blocked = False
            self._loop.remove_writer(self._ends.writer)

    def _forget(self) -> None:
        self._queue.clear()
        self.buffered = 0
        self._emptied.set()
