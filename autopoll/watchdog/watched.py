"""One incarnation of one process, as the watchdog knows it."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from autopoll.process.heartbeat import READY, Beat
from autopoll.process.verdict import Sample, Verdict
from autopoll.watchdog.footprint import Footprint, Zombie
from autopoll.watchdog.leak import Trend


@dataclass(eq=False)
class WatchedProcess:
    """What was seen of it, and what was done to it; moments are CLOCK_MONOTONIC seconds."""

    beat: Beat
    pidfd: int
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=15))
    readings: deque[Footprint] = field(default_factory=lambda: deque(maxlen=5))
    memory_trend: Trend = field(default_factory=Trend)
    descendants_trend: Trend = field(default_factory=Trend)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    is_polled: bool = False  # there is no pidfd, so its end is looked for
    is_handled: bool = False  # something is being done about it
    continued_at: float | None = None
    reported: bool = False  # that it cannot be interrupted
    asked_to_reap: frozenset[Zombie] = frozenset()
    asked_at: float = 0.0
    draining_since: float | None = None  # asked to end, and why
    drained_for: Verdict | None = None
    was_killed: bool = False  # by us: its death is no incident of its own, and no second KILL

    @property
    def name(self) -> str:
        """The name of the process, as supervisord knows it."""
        return self.beat.name

    @property
    def may_be_drained(self) -> bool:
        """Whether it is ready and nothing else is being done about it."""
        ready = self.beat.state in READY and not self.ended.is_set()
        return ready and not (self.is_handled or self.draining_since or self.was_killed)

    def add_footprint(self, footprint: Footprint) -> None:
        """Take a reading of what it holds."""
        self.readings.append(footprint)
        self.memory_trend.add(footprint.at, footprint.rss_bytes)
        self.descendants_trend.add(footprint.at, len(footprint.descendants))

    def is_overdue(self, grace: float) -> bool:
        """Whether it has no work that it may still be at, `grace` seconds over."""
        deadline = self.beat.request_deadline
        return deadline is None or time.monotonic() > deadline + grace

    def forget(self) -> None:
        """Drop what was seen over time: the watchdog itself was not there to see it all."""
        self.samples.clear()
        self.readings.clear()
