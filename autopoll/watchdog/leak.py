"""Judging what a process holds; pure, no process is touched.

A leak is one of these, the first that fits:

    descriptors   over 80 % of the limit, of the process or of anything it has started
    memory        over what the shard allows, if it does (`max_memory`)
    processes     over 200 started and living
    growth        of memory or of processes, all through its life

A limit counts when two readings in a row are over it. Growth is no leak while it may be a warm-up
or a large question, so it is seen in the *floor*, the least of each span of time: a question raises
the peak and leaves the floor, a warm-up ends and the floor stays. It has to rise in each of five
spans and more, not counting the first, to twice of what it was and by at least 256 MB (16
processes). A span is two minutes, and doubles with the life of the process: ten gigabytes an hour
are seen after a quarter of an hour, a gigabyte a day after half a day. A cache that fills for so
long and is then emptied is taken for a leak; its worker is replaced, and loses no question.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from autopoll.watchdog.footprint import Footprint, Zombie

_FIRST_SPAN_S = 120.0
_SPANS = 12  # before each two become one


class LeakThresholds(msgspec.Struct, frozen=True, kw_only=True):
    """How much is too much."""

    fd_share: float = 0.8
    rss_bytes: int | None = None
    descendants: int = 200
    growth_bytes: int = 256_000_000
    growth_descendants: int = 16


class Trend:
    """The floor of one figure over the life of a process, in at most twelve spans of time."""

    def __init__(self) -> None:
        self._span = _FIRST_SPAN_S
        self._floors: list[int] = []
        self._floor: int | None = None  # of the span that is not over
        self._end = 0.0

    def add(self, at: float, value: int) -> None:
        """Take a reading (CLOCK_MONOTONIC seconds)."""
        if self._floor is None:
            self._floor, self._end = value, at + self._span
        elif at < self._end:
            self._floor = min(self._floor, value)
        else:
            self._floors.append(self._floor)
            if len(self._floors) == _SPANS:
                self._floors = [min(two) for two in zip(*[iter(self._floors)] * 2, strict=True)]
                self._span *= 2
            self._floor, self._end = value, at + self._span

    def rise(self, least: int) -> int:
        """Return by how much it rose, span by span, to its double and by `least`; or 0."""
        floors = self._floors[1:]  # the first holds the warm-up
        if len(floors) < _SPANS // 2 - 1 or any(after <= one for one, after in pairwise(floors)):
            return 0
        rise = floors[-1] - floors[0]
        return rise if rise >= max(least, floors[0]) else 0


def find_leak(
    readings: Iterable[Footprint], memory: Trend, descendants: Trend, thresholds: LeakThresholds
) -> str:
    """Return what leaks, in words, given the readings of one incarnation; empty if nothing does."""
    last_two = tuple(readings)[-2:]
    if len(last_two) < 2:
        return ""
    now = last_two[-1]
    held = f"{now.rss_bytes / 1e6:.0f} MB in {1 + len(now.descendants)} processes"
    if all(each.fds > thresholds.fd_share * each.fd_limit for each in last_two):
        return f"process {now.fd_holder} has {now.fds} of {now.fd_limit} descriptors open"
    limit = thresholds.rss_bytes
    if limit is not None and all(each.rss_bytes > limit for each in last_two):
        return f"{held}, allowed are {limit / 1e6:.0f} MB"
    if all(len(each.descendants) > thresholds.descendants for each in last_two):
        return f"{len(now.descendants)} processes started and living"
    if rise := memory.rise(thresholds.growth_bytes):
        return f"{held}, {rise / 1e6:.0f} MB more than before, and rising all the while"
    if rise := descendants.rise(thresholds.growth_descendants):
        return f"{len(now.descendants)} processes started and living, {rise} more than before"
    return ""


def lasting_zombies(readings: Sequence[Footprint], seconds: float) -> frozenset[Zombie]:
    """Return those that have been zombies for so long."""
    zombies = readings[-1].zombies if readings else frozenset()
    for each in reversed(readings):
        zombies &= each.zombies
        if readings[-1].at - each.at >= seconds:
            return zombies
    return frozenset()
