"""Weighs every process with all that it has started, and sees to those that are too heavy.

Not as often as the watchdog looks at heartbeats, because a reading takes some milliseconds for each
hundred processes of the machine; and in a thread.
"""

import asyncio
import os
import time
from collections.abc import Iterable

from autopoll.home.home import Home
from autopoll.process.casebook import Casebook
from autopoll.process.verdict import Verdict
from autopoll.watchdog import evidence
from autopoll.watchdog.allowance import Allowances
from autopoll.watchdog.footprint import INIT, Scales, Zombie
from autopoll.watchdog.leak import Allowed, find_leak, lasting_zombies
from autopoll.watchdog.treatment import Treatment
from autopoll.watchdog.watched import Patient

EVERY_S = 5.0
ZOMBIE_S = 10.0
_NAMED = 3  # of the zombies, in the evidence


class Weighing:
    """The watchdog's look at what its patients hold, every five seconds."""

    def __init__(
        self, home: Home, allowances: Allowances, treatment: Treatment, casebook: Casebook
    ) -> None:
        self._home = home
        self._allowances = allowances
        self._treatment = treatment
        self._casebook = casebook
        self._scales = Scales(str(home.supervisord_conf.parent), [INIT, os.getppid()])
        self._next = 0.0
        self._under_way = False

    def is_due(self, now: float) -> bool:
        """Tell whether it is time for another round (CLOCK_MONOTONIC seconds)."""
        return now >= self._next and not self._under_way

    async def look(self, patients: Iterable[Patient]) -> None:
        """Weigh them, and treat who needs it."""
        self._under_way = True
        now = time.monotonic()
        self._next = now + EVERY_S
        try:
            by_pid = {patient.beat.pid: patient for patient in patients}
            names = {pid: patient.name for pid, patient in by_pid.items()}
            burdens = await asyncio.to_thread(self._scales.weigh, names, now)
            for pid, burden in burdens.items():
                by_pid[pid].weighed(burden)
            for patient in by_pid.values():
                if patient.readings and patient.may_be_drained:
                    await self._judge(patient)
        finally:
            self._under_way = False

    async def _judge(self, patient: Patient) -> None:
        allowed = Allowed(rss_bytes=self._allowances.of(patient.name).rss_bytes)
        zombies = lasting_zombies(patient.readings, ZOMBIE_S)
        if not zombies:
            patient.told_to_reap = frozenset()
            self._casebook.close(patient.name, Verdict.ZOMBIE_CHILDREN, time.monotonic())
        if leak := find_leak(patient.readings, patient.memory, patient.brood, allowed):
            await self._drain(patient, Verdict.LEAK, leak)
        elif zombies:
            await self._bury(patient, zombies)

    async def _bury(self, patient: Patient, zombies: frozenset[Zombie]) -> None:
        """Have the process reap its own dead; drain it when it cannot, or they are not its own."""
        own = {zombie for zombie in zombies if zombie.parent == patient.beat.pid}
        if own - patient.told_to_reap and self._treatment.may_reap(patient):
            patient.told_to_reap, patient.told_at = zombies, time.monotonic()
            self._treatment.tell_to_reap(patient, _shown(zombies))
        elif not own or time.monotonic() - patient.told_at > ZOMBIE_S:
            await self._drain(patient, Verdict.ZOMBIE_CHILDREN, _shown(zombies))

    async def _drain(self, patient: Patient, verdict: Verdict, why: str) -> None:
        if not self._treatment.may_drain(patient.name):
            return
        seen = await evidence.collect(self._home, patient.beat, verdict)
        if patient.may_be_drained:
            self._treatment.drain(patient, verdict, f"{why}; {seen}")


def _shown(zombies: frozenset[Zombie]) -> str:
    first = sorted(zombies, key=lambda zombie: zombie.pid)[:_NAMED]
    told = [f"{each.pid} ({each.name}), a child of {each.parent}" for each in first]
    more = f" and {len(zombies) - len(first)} more" if len(zombies) > len(first) else ""
    return f"ended and not waited for: {'; '.join(told)}{more}"
