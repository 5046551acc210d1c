"""How often a program may be started again: at once at first, then ever more slowly.

As OTP's restart intensity, but never giving up for good: after the pause one start is let through
as a trial, and the next pause is twice as long if that one fails too. So a program whose cause is
mended comes back by itself within a minute.
"""

import random
from collections import deque

_INTENSITY = 5  # starts …
_PERIOD = 60.0  # … in so many seconds are free of pauses
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class Budget:
    """The starts of one program; times are CLOCK_MONOTONIC seconds."""

    def __init__(self) -> None:
        self._starts: deque[float] = deque(maxlen=_INTENSITY)
        self._pause = 0.0
        self._due = 0.0

    @property
    def due(self) -> float:
        """The moment from which it may be started again."""
        return self._due

    def spend(self, now: float) -> None:
        """Count a start."""
        self._starts.append(now)
        spent = len(self._starts) == _INTENSITY and now - self._starts[0] <= _PERIOD
        if spent or self._pause:
            self._pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, self._pause * 2))
            # Jitter, so that programs that failed together do not come back together.
            self._due = now + self._pause * random.uniform(0.5, 1.0)  # noqa: S311
