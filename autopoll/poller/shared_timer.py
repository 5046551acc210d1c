"""One timer for many deadlines, of which hardly any is reached.

A timer for each deadline is made and cancelled with each question, and stays in the loop's heap
until its time has come. One timer for all is set again only when the next deadline is an earlier
one; it may fire for a deadline that is gone, and then finds nothing to do.
"""

import asyncio
from collections.abc import Callable
from math import inf


class SharedTimer:
    """Calls `on_time` when a deadline has come; it does what is due and returns the next deadline.

    Deadlines are moments of the loop's clock; `inf` is none.
    """

    def __init__(self, on_time: Callable[[], float]) -> None:
        self._on_time = on_time
        self._moment = inf
        self._timer: asyncio.TimerHandle | None = None

    def fire_by(self, moment: float) -> None:
        """Fire at this moment, or earlier."""
        if moment >= self._moment:
            return
        if self._timer:
            self._timer.cancel()
        self._moment = moment
        self._timer = asyncio.get_running_loop().call_at(moment, self._fire)

    def _fire(self) -> None:
        self._moment, self._timer = inf, None
        self.fire_by(self._on_time())
