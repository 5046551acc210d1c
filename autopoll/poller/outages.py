"""Errors of the store: what failed, since it is locked, full or away, is tried again and reported.

Once the poller has served, to end would be no help: the next one would meet the same store, and
this one can say so. At the start whoever starts it reads why it ends.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from autopoll.errors import BridgeBusy, BridgeError, BridgeFull, BridgeUnavailable

_SLOW_S = 0.5  # a step of a turn that takes longer is followed by a beat: the next may do so too

log = logging.getLogger(__name__)


class Outages:
    """The steps on the store that failed when they were last tried.

    A turn has several, and each may take the store LONGEST_CALL_S; `beat` is called in between, and
    `on_away` when a server could not be reached, whatever was to be done there.
    """

    def __init__(self, beat: Callable[[], None], on_away: Callable[[], None]) -> None:
        self._beat = beat
        self._on_away = on_away
        self.has_served = False
        self._reasons: dict[str, str] = {}

    @contextmanager
    def tolerated(self, step: str) -> Iterator[None]:
        """Note an error of the store in place of raising it; the caller tries the step again.

        Raises BridgeError before the store has served, unless that can pass by itself.
        """
        begun = time.monotonic()
        try:
            yield
            self._reasons.pop(step, None)
        except BridgeError as error:
            if isinstance(error, BridgeUnavailable):
                self._on_away()
            passing = isinstance(error, BridgeBusy | BridgeFull | BridgeUnavailable)
            if not (self.has_served or passing):
                raise
            if self._reasons.get(step) != error.what:
                log.warning("the bridge cannot be used, trying again: %s", error)
            self._reasons[step] = error.what
        finally:
            self._beat_if_slow(begun)

    @contextmanager
    def passed_over(self) -> Iterator[None]:
        """Report no server that is away, in a block that can wait until others have reached it."""
        begun = time.monotonic()
        try:
            yield
        except BridgeUnavailable:
            self._on_away()
        finally:
            self._beat_if_slow(begun)

    def _beat_if_slow(self, begun: float) -> None:
        if time.monotonic() - begun > _SLOW_S:
            self._beat()

    @property
    def reason(self) -> str:
        """Why the store cannot be used; empty while it can."""
        return next(iter(self._reasons.values()), "")
