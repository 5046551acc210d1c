"""How often a program may be started again: at once at first, then ever more slowly.

As OTP's restart intensity, but never giving up for good: after the pause one start is let through
as a trial, and the next pause is twice as long if that one fails too. So a program whose cause is
mended comes back by itself within a minute. Ten minutes of health make everything forgotten.
"""

import random

import msgspec

_INTENSITY = 5  # failures …
_PERIOD = 60.0  # … in so many seconds are free of pauses
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_HEALTHY_AFTER = 600.0


class RestartBudget(msgspec.Struct):
    """The failures of one program; times are CLOCK_MONOTONIC seconds."""

    times: list[float] = []  # of the last failures
    pause: float = 0.0  # what the last one cost, before jitter
    due: float = 0.0  # the moment from which it may be started again

    def spend(self, now: float) -> None:
        """Count a failure: a start that is needed because the one before did not last."""
        if self.times and now - max(self.times[-1], self.due) > _HEALTHY_AFTER:
            self.times, self.pause = [], 0.0
        self.times = [*self.times, now][-_INTENSITY:]
        spent = len(self.times) == _INTENSITY and now - self.times[0] <= _PERIOD
        if spent or self.pause:
            self.pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, self.pause * 2))
            # Jitter, so that programs that failed together do not come back together.
            self.due = now + self.pause * random.uniform(0.5, 1.0)  # noqa: S311

    def bounded(self, now: float) -> "RestartBudget":
        """Return itself with nothing in it that no honest history can hold, as a file might."""
        self.times = [min(each, now) for each in self.times[-_INTENSITY:]]
        self.pause = min(max(self.pause, 0.0), _LONGEST_PAUSE)
        self.due = min(self.due, now + _LONGEST_PAUSE)
        return self
