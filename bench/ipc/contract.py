"""What every way to reach another process must do to be compared with the others."""

import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen
from threading import Timer
from typing import ClassVar, NamedTuple, Self

import psutil

FRAME = 16 * 1024 * 1024  # bytes of the payload in whose midst a server is killed: no buffer's size


class Wrong(Exception):
    """What came back is not what was sent."""


class Loss(NamedTuple):
    """How a client learnt that its server was killed in the midst of a reply."""

    seconds: float | None  # from the kill; None when nothing tells it
    sign: str


class Channel(ABC):
    """A client, joined with an echo server in another process until `close`.

    Every payload comes back as it was sent, or Wrong is raised. The folder is the channel's own;
    it may be given to a successor. A server ends when its client's process does.
    """

    name: ClassVar[str]
    stays: ClassVar[bool] = True  # one server answers all requests

    def __init__(self, folder: Path) -> None:
        self.server: Popen[bytes] | None = None  # None where none stays
        self.starting = 0.0  # seconds spent in starting processes for requests
        self._stack = ExitStack()
        try:
            self._join(folder)
        except BaseException:
            self._stack.close()
            raise

    @abstractmethod
    def _join(self, folder: Path) -> None:
        """Start the server and reach it; what must be undone goes onto the stack."""

    @abstractmethod
    def exchange(self, payload: bytes) -> bytes:
        """Send one payload and return what came back."""

    def round_trips(self, payload: bytes, count: int) -> list[float]:
        """Exchange one payload after the other and return the seconds that each took."""
        times = []
        for _ in range(count):
            began = time.perf_counter()
            echo = self.exchange(payload)
            times.append(time.perf_counter() - began)
            if echo != payload:
                raise Wrong(f"{self.name}: {len(payload)} bytes were sent, others came back")
        return times

    @abstractmethod
    def converse(self, payloads: Sequence[bytes]) -> None:
        """Exchange the payloads in order, as many in flight as a Window allows."""

    def hold(self, seconds: float) -> float:
        """Ask a server that stands still for `seconds`; return the longest time we did so too."""
        with stopped(self._served(), seconds):
            began = time.perf_counter()
            self.exchange(b"?")
            return time.perf_counter() - began

    @abstractmethod
    def lose(self) -> Loss:
        """Kill the server in the midst of a reply; after this there is only `close`."""

    def memory(self) -> int:
        """Return the resident bytes of the server."""
        return int(psutil.Process(self._served().pid).memory_info().rss)

    def descriptors(self) -> int:
        """Return how many descriptors the server has open."""
        return int(psutil.Process(self._served().pid).num_fds())

    def close(self) -> None:
        """Let go of everything, also of the server; may come twice."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _served(self) -> Popen[bytes]:
        if self.server is None:
            raise LookupError(f"no server of {self.name} runs")
        return self.server

    def _kill(self) -> float:
        """Kill the server and return when."""
        began = time.perf_counter()
        self._served().send_signal(signal.SIGKILL)
        return began


def stop(process: Popen[bytes]) -> None:
    """Stop a process, and return when it stands still."""
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)


@contextmanager
def stopped(process: Popen[bytes], seconds: float) -> Iterator[None]:
    """Let a process stand still for `seconds`, however long the block takes."""
    stop(process)
    timer = Timer(seconds, process.send_signal, (signal.SIGCONT,))
    timer.start()
    try:
        yield
    finally:
        timer.join()
