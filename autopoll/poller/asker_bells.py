"""Those who wait for an answer: the bell of each is rung when there is news for it."""

import logging
from collections.abc import Iterable
from contextlib import suppress

from autopoll.bridge.records import Settled
from autopoll.home.home import Home
from autopoll.process.heartbeat_writer import Heart
from fifo import bell
from fifo.exceptions import FifoError

SWEEP_S = 60.0  # the age at which a bell that nobody listens to is removed

log = logging.getLogger(__name__)


class Askers:
    """The bells in a home's folder of waiters."""

    def __init__(self, home: Home, heart: Heart) -> None:
        self._home = home
        self._folder = str(home.waiters)
        self._heart = heart

    def notify(self, settled: Iterable[Settled]) -> None:
        """Count what was settled, and ring each asker once."""
        kept = [each for each in settled if each.state != "lost"]
        if kept:
            done = sum(each.state == "done" for each in kept)
            self._heart.count(done=done, failed=len(kept) - done)
        for waiter in {each.waiter for each in kept}:
            self.ring(waiter)

    def ring(self, waiter: str | None) -> None:
        """Ring an asker's bell, if it has one and still listens; it also looks by itself."""
        if waiter:
            try:
                # No Path: it interns each name, and in 100,000 answers that table, a single
                # block of memory, was copied often enough to cost two megabytes.
                bell.ring(f"{self._folder}/{waiter}.fifo")
            except (FifoError, OSError) as error:
                log.warning("the bell of an asker cannot be rung: %s", error)

    def sweep(self) -> None:
        """Remove the bells of askers that were killed."""
        with suppress(OSError):  # a folder that is missing is named by whoever needs it
            bell.sweep(self._home.waiters, SWEEP_S)
