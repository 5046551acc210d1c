"""Steps that the main loop runs every so many seconds.

The timer wakes the loop and nothing more, so that whatever a step raises is raised in the loop.
"""

import asyncio
from collections.abc import Callable

from autopoll.clock import until_next

Step = Callable[[], None]


class Schedule:
    """The steps of one loop, each run in its next turn and then again and again."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._every: dict[Step, float] = {}
        self._due: dict[Step, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False

    def every(self, seconds: float, step: Step) -> None:
        """Run the step in the next turn and every so many seconds after that.

        For a step that is known, this changes how often it is run.
        """
        self._every[step] = seconds
        self._due[step] = self._loop.time()
        self._on_time()

    def run_due(self) -> None:
        """Run the steps whose time has come; costs next to nothing when there are none.

        A step that raises is tried again in its own time, and the others are run in the next turn.
        """
        if not self._is_due:
            return
        self._is_due = False
        now = self._loop.time()
        try:
            for step in [step for step, moment in self._due.items() if moment <= now]:
                self._due[step] = now + until_next(self._every[step], now)
                step()
        finally:  # also where none was due: a timer may fire a little before its time
            self.close()
            self._timer = self._loop.call_at(min(self._due.values()), self._on_time)

    def close(self) -> None:
        """Wake the loop no more."""
        if self._timer:
            self._timer.cancel()

    def _on_time(self) -> None:
        self._is_due = True
        self._wake()
