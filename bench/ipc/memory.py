"""Shared memory with eventfd: a ring each way, and a counter that says how many frames are new."""

import mmap
import os
import select
import time
from collections.abc import Sequence
from pathlib import Path

from bench.ipc.contract import Channel, Loss, stop
from bench.ipc.echo.memory import LARGEST, SIZE, Ring
from bench.ipc.server import start
from bench.ipc.window import Window

GIVE_UP_S = 1.0  # after which nothing can be said to have told us


class Memory(Channel):
    """Nothing of it has a name, so that it is gone with its processes."""

    name = "shared memory"

    def _join(self, folder: Path) -> None:
        rings, news = [], []
        for title in ("requests", "replies"):
            memory = os.memfd_create(title)
            self._stack.callback(os.close, memory)
            os.ftruncate(memory, SIZE)
            mapped = mmap.mmap(memory, SIZE)
            self._stack.callback(mapped.close)
            rings.append(Ring(mapped))
            event = os.eventfd(0)
            self._stack.callback(os.close, event)
            news += [memory, event]
        self._asked, self._replied = rings
        self._bell, self._heard = news[1], news[3]
        self.server = start(self._stack, "memory", *news, pass_fds=news)

    def exchange(self, payload: bytes) -> bytes:
        """Put one payload into the ring and return what was put into the other."""
        self._asked.put(payload)
        os.eventfd_write(self._bell, 1)
        self._listen()
        return self._replied.take()

    def converse(self, payloads: Sequence[bytes]) -> None:
        """Exchange the payloads in order; what may go out together is told at once."""
        window = Window(payloads)
        while not window.done:
            if batch := window.fill():
                for payload in batch:
                    self._asked.put(payload)
                os.eventfd_write(self._bell, len(batch))
            for _ in range(self._listen()):
                window.take(self._replied.take())

    def _listen(self) -> int:
        """Return how many replies there are; raise EOFError when nobody is left to make one."""
        while not select.select([self._heard], [], [], 1.0)[0]:
            if self._served().poll() is not None:
                raise EOFError("the server has ended")
        return os.eventfd_read(self._heard)

    def lose(self) -> Loss:
        """Kill the server while it has a request to answer, and wait for a sign of it."""
        # A frame is told of when it is whole, so half of one is never seen. Stopped, it never is.
        stop(self._served())
        self._asked.put(bytes(LARGEST))
        os.eventfd_write(self._bell, 1)
        killed = self._kill()
        if select.select([self._heard], [], [], GIVE_UP_S)[0]:
            return Loss(time.perf_counter() - killed, "the eventfd")
        return Loss(None, "nothing: an eventfd does not hang up")
