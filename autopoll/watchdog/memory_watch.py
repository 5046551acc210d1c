"""Reads the footprint of every process, and drains those that hold too much.

Not as often as the watchdog looks at heartbeats, because a reading takes some milliseconds for each
hundred processes of the machine; and in a thread.
"""

import asyncio
import os
import time
from collections.abc import Iterable

from autopoll.home.home import Home
from autopoll.process.incident_log import IncidentLog
from autopoll.process.verdict import Verdict
from autopoll.watchdog import evidence
from autopoll.watchdog.footprint import INIT, FootprintReader, Zombie
from autopoll.watchdog.leak import LeakThresholds, find_leak, lasting_zombies
from autopoll.watchdog.remedy import Remedy
from autopoll.watchdog.watched import WatchedProcess
from autopoll.watchdog.worker_limits import WorkerLimits

EVERY_S = 5.0
ZOMBIE_S = 10.0
_NAMED = 3  # of the zombies, in the evidence


class MemoryWatch:
    """The watchdog's look at what its processes hold, every five seconds."""

    def __init__(
        self, home: Home, limits: WorkerLimits, remedy: Remedy, incidents: IncidentLog
    ) -> None:
        self._home = home
        self._limits = limits
        self._remedy = remedy
        self._incidents = incidents
        self._reader = FootprintReader(str(home.supervisord_conf.parent), [INIT, os.getppid()])
        self._next = 0.0
        self._under_way = False

    def is_due(self, now: float) -> bool:
        """Tell whether it is time for another round (CLOCK_MONOTONIC seconds)."""
        return now >= self._next and not self._under_way

    async def look(self, processes: Iterable[WatchedProcess]) -> None:
        """Read their footprints, and drain those that need it."""
        self._under_way = True
        now = time.monotonic()
        self._next = now + EVERY_S
        try:
            by_pid = {process.beat.pid: process for process in processes}
            names = {pid: process.name for pid, process in by_pid.items()}
            footprints = await asyncio.to_thread(self._reader.read, names, now)
            for pid, footprint in footprints.items():
                by_pid[pid].add_footprint(footprint)
            for process in by_pid.values():
                if process.readings and process.may_be_drained:
                    await self._judge(process)
        finally:
            self._under_way = False

    async def _judge(self, process: WatchedProcess) -> None:
        thresholds = LeakThresholds(rss_bytes=self._limits.of(process.name).rss_bytes)
        trends = process.memory_trend, process.descendants_trend
        zombies = lasting_zombies(process.readings, ZOMBIE_S)
        if not zombies:
            process.asked_to_reap = frozenset()
            self._incidents.close(process.name, Verdict.ZOMBIE_CHILDREN, time.monotonic())
        if leak := find_leak(process.readings, *trends, thresholds):
            await self._drain(process, Verdict.LEAK, leak)
        elif zombies:
            await self._have_reaped(process, zombies)

    async def _have_reaped(self, process: WatchedProcess, zombies: frozenset[Zombie]) -> None:
        """Have the process reap its own; drain it when it cannot, or they are not its own."""
        own = {zombie for zombie in zombies if zombie.parent == process.beat.pid}
        if own - process.asked_to_reap and self._remedy.may_reap(process):
            process.asked_to_reap, process.asked_at = zombies, time.monotonic()
            self._remedy.ask_to_reap(process, _shown(zombies))
        elif not own or time.monotonic() - process.asked_at > ZOMBIE_S:
            await self._drain(process, Verdict.ZOMBIE_CHILDREN, _shown(zombies))

    async def _drain(self, process: WatchedProcess, verdict: Verdict, why: str) -> None:
        if not self._remedy.may_drain(process.name):
            return
        seen = await evidence.collect(self._home, process.beat, verdict)
        if process.may_be_drained:
            self._remedy.drain(process, verdict, f"{why}; {seen}")


def _shown(zombies: frozenset[Zombie]) -> str:
    first = sorted(zombies, key=lambda zombie: zombie.pid)[:_NAMED]
    shown = [f"{each.pid} ({each.name}), a child of {each.parent}" for each in first]
    more = f" and {len(zombies) - len(first)} more" if len(zombies) > len(first) else ""
    return f"ended and not waited for: {'; '.join(shown)}{more}"
