"""Forgets what is old, in steps so short that a question which comes meanwhile does not notice.

A sweep goes through everything once an hour. A step takes some milliseconds, and most of the time
between two steps nothing is done: while questions are under way, nearly all of it.
"""

import logging
import time
from collections.abc import Callable

from autopoll.bridge.retention_protocol import (
    PrunedRows,
    RetentionStore,
    SweepPlace,
    ages_of,
)
from autopoll.errors import BridgeError, BridgeUnavailable
from autopoll.home.config import Config

EVERY_S = 3600.0
FIRST_S = 5.0  # after the start, when what has waited is under way
# After a step nothing is done for so long, or for so many times as long as it has taken.
_IDLE_PAUSE_S, _IDLE_REST = 0.05, 10
_BUSY_PAUSE_S, _BUSY_REST = 0.1, 30
_SHORT_S, _LONG_S = 0.003, 0.008  # a step within the first is followed by a larger one
_LEAST, _MOST = 20, 400  # things that a step removes

log = logging.getLogger(__name__)


class Pruning:
    """The sweeps of one poller; `is_busy` tells whether questions are under way."""

    def __init__(
        self,
        config: Config,
        store: RetentionStore,
        wake_in: Callable[[float], None],
        is_busy: Callable[[], bool],
    ) -> None:
        self._store = store
        self._wake_in = wake_in
        self._is_busy = is_busy
        self._most = _LEAST
        self._removed = PrunedRows()
        self._place: SweepPlace | None = None
        self._next = 0.0  # on the monotonic clock
        self.update(config)
        self._wait(FIRST_S)

    def update(self, config: Config) -> None:
        """Go by other settings from now on, and begin a new sweep."""
        self._ages = ages_of(config.retention)
        self._place = SweepPlace()
        self._wait(FIRST_S)

    @property
    def is_due(self) -> bool:
        """Whether it is time for a step."""
        return time.monotonic() >= self._next

    def step(self) -> None:
        """Take a step; raises BridgeUnavailable."""
        begun = time.monotonic()
        place = self._place or SweepPlace()
        try:
            removed, self._place = self._store.sweep(self._ages, place, self._most)
        except BridgeUnavailable:
            self._wait(FIRST_S)
            raise
        except BridgeError as error:  # it is locked, or another program's rule keeps its rows
            log.warning("what is old is kept for another hour: %s", error)
            self._end()
            return
        took = time.monotonic() - begun
        self._removed.add(removed)
        self._adapt(took, removed.rows)
        if self._place is None:
            self._end()
        else:
            busy = self._is_busy()
            pause, rest = (_BUSY_PAUSE_S, _BUSY_REST) if busy else (_IDLE_PAUSE_S, _IDLE_REST)
            self._wait(max(pause, rest * took))

    def _adapt(self, took: float, rows: int) -> None:
        if took > _LONG_S:
            self._most = max(_LEAST, self._most // 2)
        elif took < _SHORT_S and rows == self._most:
            self._most = min(_MOST, self._most * 2)

    def _end(self) -> None:
        gone = self._removed
        if gone.rows:
            log.info(
                "removed %d answered questions, %d canaries, %d messages of others, %d lines of the"
                " audit log, %d keys",
                gone.questions, gone.canaries, gone.foreign_messages, gone.audit_lines, gone.keys,
            )  # fmt: skip
        self._removed = PrunedRows()
        self._place = None
        self._wait(EVERY_S)

    def _wait(self, seconds: float) -> None:
        self._next = time.monotonic() + seconds
        self._wake_in(seconds)
