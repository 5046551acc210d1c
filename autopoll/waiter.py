"""The bell of whoever waits for an answer; the poller rings it when there is news."""

import os
import select
from types import TracebackType
from typing import Protocol, Self

from autopoll.home import Home
from fifo.bell import Bell


class Ringable(Protocol):
    """Whoever has a bell among the home's waiters."""

    name: str


class Waiter:
    """The bell of one asker, there for as long as it waits."""

    def __init__(self, home: Home) -> None:
        self.name = f"w-{os.urandom(8).hex()}"
        # `down` empties var/run, and a question may be asked all the same.
        home.waiters.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._bell = Bell(home.waiters / f"{self.name}.fifo")

    def wait(self, seconds: float) -> bool:
        """Return when rung, or after the time; tell which."""
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
        self._bell.close()
