"""How asker and poller wake each other. Nothing depends on it: both also look by themselves."""

import os
import select
import time
from types import TracebackType
from typing import Protocol, Self

from autopoll.home.home import Home
from fifo.bell import Bell, ring
from fifo.exceptions import FifoError

LOOK_S = 0.25  # between two looks of an asker whose bell could not be made


def nudge(home: Home) -> bool:
    """Ring the poller and tell whether it listens.

    What is no bell of ours is left alone, and named by the poller, which looks by itself meanwhile.
    """
    try:
        return ring(home.bell)
    except (FifoError, OSError):
        return False


class Ringable(Protocol):
    """Whoever has a bell among the home's waiters."""

    name: str


class Waiter:
    """The bell of one asker, there for as long as it waits.

    Where none can be made, as in a folder that is read-only, the asker looks more often by itself.
    """

    def __init__(self, home: Home) -> None:
        self.name = f"w-{os.urandom(8).hex()}"
        # `down` empties var/run, and a question may be asked all the same.
        self._bell: Bell | None = None
        try:
            home.waiters.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._bell = Bell(home.waiters / f"{self.name}.fifo")
        except (FifoError, OSError):
            return

    def wait(self, seconds: float) -> bool:
        """Return when rung, or after the time; tell which."""
        if self._bell is None:
            time.sleep(max(0.0, min(seconds, LOOK_S)))
            return False
        poll = select.poll()
        poll.register(self._bell.fileno(), select.POLLIN)
        rung = bool(poll.poll(max(0.0, seconds) * 1000))
        if rung:
            self._bell.read()
        return rung

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bell:
            self._bell.close()
