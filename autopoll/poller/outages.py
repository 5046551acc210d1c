"""Errors of the store, which is locked, full or damaged: what failed is tried again, and reported.

Once the poller has served, to end would be no help: the next one would meet the same store, and
this one can say so. At the start whoever starts it reads why it ends.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from autopoll.errors import BridgeBusy, BridgeError, BridgeFull

log = logging.getLogger(__name__)


class Outages:
    """The steps on the store that failed when they were last tried."""

    def __init__(self) -> None:
        self.has_served = False
        self._reasons: dict[str, str] = {}

    @contextmanager
    def tolerated(self, step: str) -> Iterator[None]:
        """Note an error of the store in place of raising it; the caller tries the step again.

        Raises BridgeError before the store has served, unless it is only busy or full.
        """
        try:
            yield
            self._reasons.pop(step, None)
        except BridgeError as error:
            if not (self.has_served or isinstance(error, BridgeBusy | BridgeFull)):
                raise
            if self._reasons.get(step) != error.what:
                log.warning("the bridge cannot be used, trying again: %s", error)
            self._reasons[step] = error.what

    @property
    def reason(self) -> str:
        """Why the store cannot be used; empty while it can."""
        return next(iter(self._reasons.values()), "")
