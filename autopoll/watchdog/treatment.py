"""What is done about a verdict: let go on, tell to reap, drain, kill. Each is an incident.

Who is healthy and only weighs too much is told to end, and finishes what it has in hand; who hangs
would only make the asker wait longer, and is killed at once, its group with it. Every signal goes
to the very process that was judged, or to nobody.
"""

import asyncio
import logging
import signal
import time

from autopoll.home.home import Home
from autopoll.process import orphans, signals
from autopoll.process.actions import CONTINUED, DRAINED, KILLED, REPORTED, TOLD
from autopoll.process.casebook import Casebook
from autopoll.process.orphans import Marked
from autopoll.process.restart_budget import Budget
from autopoll.process.verdict import Verdict
from autopoll.process.vitals import catches, vitals
from autopoll.watchdog.watched import Patient

DEATH_S = 5.0  # from KILL until a process is called undying
SEARCH_S = 3.0  # who hangs in the kernel can hang who reads its environment
CONTINUE_ONCE_IN_S = 60.0

log = logging.getLogger(__name__)


class Treatment:
    """The hands of the watchdog."""

    def __init__(self, home: Home, casebook: Casebook) -> None:
        self._supervised = str(home.supervisord_conf.parent)
        self._casebook = casebook
        self._budgets: dict[str, Budget] = {}

    def may_resume(self, patient: Patient) -> bool:
        """Tell whether it has not been continued lately; who stops again at once is replaced."""
        at = patient.continued_at
        return at is None or time.monotonic() - at > CONTINUE_ONCE_IN_S

    def resume(self, patient: Patient, seen: str) -> None:
        """Let a stopped process go on, its backend's children with it."""
        patient.continued_at = time.monotonic()
        patient.samples.clear()
        self._note(patient, Verdict.STOPPED, CONTINUED, seen)
        signals.send_group(patient.beat.pid, patient.beat.started, signal.SIGCONT)

    def report(self, patient: Patient, verdict: Verdict, seen: str) -> None:
        """Say what nothing can or should be done about."""
        patient.reported = True
        self._note(patient, verdict, REPORTED, seen)

    def may_reap(self, patient: Patient) -> bool:
        """Tell whether it knows what to do when it is told to reap."""
        return catches(patient.beat.pid, signal.SIGUSR2)

    def tell_to_reap(self, patient: Patient, seen: str) -> None:
        """Ask the process to wait for those of its children that it has forgotten."""
        self._note(patient, Verdict.ZOMBIE_CHILDREN, TOLD, seen)
        signals.send(patient.beat.pid, patient.beat.started, signal.SIGUSR2)

    def may_drain(self, name: str) -> bool:
        """Tell whether the process has not been drained too often of late.

        What is heavier than allowed as soon as it has started would else do nothing but start.
        """
        budget = self._budgets.get(name)
        return budget is None or time.monotonic() >= budget.due

    def drain(self, patient: Patient, verdict: Verdict, seen: str) -> None:
        """Have the process finish what it has in hand and end; supervisord starts the next."""
        patient.draining_since, patient.drained_for = time.monotonic(), verdict
        self._budgets.setdefault(patient.name, Budget()).spend(patient.draining_since)
        self._note(patient, verdict, DRAINED, seen)
        signals.send(patient.beat.pid, patient.beat.started, signal.SIGTERM)

    async def clear_up(self, patient: Patient) -> None:
        """End what an ended process has left behind, as it was last weighed.

        Only what is known to be its own, by pid and start time: its successor lives already, and
        sweeps what else bears its name when it starts.
        """
        await self._end(patient, patient.readings[-1].brood if patient.readings else ())

    async def kill(self, patient: Patient, verdict: Verdict, seen: str) -> None:
        """Kill the process group, see it dead, and end what it leaves behind.

        No TERM before: who has let its deadline and CANCEL pass, or whose loop stands still, would
        only make the asker wait longer. What is not in its group is given one.
        """
        beat = patient.beat
        patient.doomed = True
        brood = await self._brood(patient)
        self._note(patient, verdict, KILLED, seen)
        signals.send_group(beat.pid, beat.started, signal.SIGKILL)
        try:
            async with asyncio.timeout(DEATH_S):
                await patient.ended.wait()
        except TimeoutError:
            # In uninterruptible sleep the signal stays pending; a second one would add nothing.
            reading = vitals(beat.pid)
            state = reading.state if reading else "unknown"
            seen = f"process {beat.pid} does not die of KILL, which stays pending; state {state}"
            self.report(patient, Verdict.UNINTERRUPTIBLE, seen)
        await self._end(patient, brood)

    async def _brood(self, patient: Patient) -> list[Marked]:
        """Return all that bears the marks of the process or was last seen below it."""
        beat = patient.beat
        marks = {"AUTOPOLL_SUPERVISED": self._supervised, "AUTOPOLL_INSTANCE": beat.name}
        known = patient.readings[-1].brood if patient.readings else ()
        brood = {each.pid: each for each in known}
        try:
            async with asyncio.timeout(SEARCH_S):
                found = await asyncio.to_thread(orphans.find, marks, [beat.pid])
        except TimeoutError:
            log.error("%s: /proc does not answer", beat.name)
        else:
            brood |= {each.pid: each for each in found}
        return list(brood.values())

    async def _end(self, patient: Patient, brood: list[Marked] | tuple[Marked, ...]) -> None:
        for child in await asyncio.to_thread(orphans.end, brood):
            log.error("%s: child %d (%s) does not die", patient.name, child.pid, child.command)

    def _note(self, patient: Patient, verdict: Verdict, action: str, seen: str) -> None:
        beat = patient.beat
        self._casebook.note(patient.name, verdict, action, seen, pid=beat.pid, started=beat.started)
