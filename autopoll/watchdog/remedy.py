"""What is done about a verdict: continue, ask to reap, drain, kill. Each is an incident.

A process that only holds too much is asked to end, and finishes what it has in flight. One that
hangs would only make the asker wait longer: it is killed at once, its group with it. Every signal
goes to the very process that was judged, or to none.
"""

import asyncio
import logging
import signal
import time

from autopoll.home.home import Home
from autopoll.process import orphans, signals
from autopoll.process.incident_actions import ASKED_TO_REAP, CONTINUED, DRAINED, KILLED, REPORTED
from autopoll.process.incident_log import IncidentLog
from autopoll.process.orphans import Marked
from autopoll.process.proc_stat import catches, read_stat
from autopoll.process.restart_budget import RestartBudget
from autopoll.process.verdict import Verdict
from autopoll.watchdog.watched import WatchedProcess

DEATH_S = 5.0  # from KILL until a process is called undying
SEARCH_S = 3.0  # a process that hangs in the kernel can hang a reader of its environment

log = logging.getLogger(__name__)


class Remedy:
    """Acts on the watched processes of one home."""

    def __init__(self, home: Home, incidents: IncidentLog) -> None:
        self._supervised = str(home.supervisord_conf.parent)
        self._incidents = incidents
        self._budgets: dict[str, RestartBudget] = {}

    def may_resume(self, process: WatchedProcess) -> bool:
        """Tell whether it was not continued lately; one that stops again at once is replaced."""
        at = process.continued_at
        return at is None or time.monotonic() - at > signals.CONTINUE_ONCE_IN_S

    def resume(self, process: WatchedProcess, seen: str) -> None:
        """Let a stopped process go on, its backend's children with it."""
        process.continued_at = time.monotonic()
        process.samples.clear()
        self._note(process, Verdict.STOPPED, CONTINUED, seen)
        signals.send_group(process.beat.pid, process.beat.started, signal.SIGCONT)

    def report(self, process: WatchedProcess, verdict: Verdict, seen: str) -> None:
        """Say what nothing can or should be done about."""
        process.reported = True
        self._note(process, verdict, REPORTED, seen)

    def may_reap(self, process: WatchedProcess) -> bool:
        """Tell whether it knows what to do when it is asked to reap."""
        return catches(process.beat.pid, signal.SIGUSR2)

    def ask_to_reap(self, process: WatchedProcess, seen: str) -> None:
        """Ask the process to wait for those of its children that it has forgotten."""
        self._note(process, Verdict.ZOMBIE_CHILDREN, ASKED_TO_REAP, seen)
        signals.send(process.beat.pid, process.beat.started, signal.SIGUSR2)

    def may_drain(self, name: str) -> bool:
        """Tell whether the process has not been drained too often of late.

        One that holds too much as soon as it has started would else do nothing but start.
        """
        budget = self._budgets.get(name)
        return budget is None or time.monotonic() >= budget.due

    def drain(self, process: WatchedProcess, verdict: Verdict, seen: str) -> None:
        """Have the process finish what it has in flight and end; supervisord starts the next."""
        process.draining_since, process.drained_for = time.monotonic(), verdict
        self._budgets.setdefault(process.name, RestartBudget()).spend(process.draining_since)
        self._note(process, verdict, DRAINED, seen)
        signals.send(process.beat.pid, process.beat.started, signal.SIGTERM)

    async def end_descendants(self, process: WatchedProcess) -> None:
        """End what an ended process has left behind, by its last footprint.

        Only what is known to be its own, by pid and start time: its successor lives already, and
        sweeps what else bears its name when it starts.
        """
        await self._end(process, process.readings[-1].descendants if process.readings else ())

    async def kill(self, process: WatchedProcess, verdict: Verdict, seen: str) -> None:
        """Kill the process group, see it dead, and end what it leaves behind.

        No TERM before: a process that has let its deadline and CANCEL pass, or whose loop stands
        still, would only make the asker wait longer. What is not in its group is given one.
        """
        beat = process.beat
        process.was_killed = True
        descendants = await self._descendants(process)
        self._note(process, verdict, KILLED, seen)
        signals.send_group(beat.pid, beat.started, signal.SIGKILL)
        try:
            async with asyncio.timeout(DEATH_S):
                await process.ended.wait()
        except TimeoutError:
            # In uninterruptible sleep the signal stays pending; a second one would add nothing.
            reading = read_stat(beat.pid)
            state = reading.state if reading else "unknown"
            seen = f"process {beat.pid} does not die of KILL, which stays pending; state {state}"
            self.report(process, Verdict.UNINTERRUPTIBLE, seen)
        await self._end(process, descendants)

    async def _descendants(self, process: WatchedProcess) -> list[Marked]:
        """Return all that bears the marks of the process or was last seen below it."""
        beat = process.beat
        marks = {"AUTOPOLL_SUPERVISED": self._supervised, "AUTOPOLL_INSTANCE": beat.name}
        known = process.readings[-1].descendants if process.readings else ()
        descendants = {each.pid: each for each in known}
        try:
            async with asyncio.timeout(SEARCH_S):
                found = await asyncio.to_thread(orphans.find, marks, [beat.pid])
        except TimeoutError:
            log.error("%s: /proc does not answer", beat.name)
        else:
            descendants |= {each.pid: each for each in found}
        return list(descendants.values())

    async def _end(
        self, process: WatchedProcess, descendants: list[Marked] | tuple[Marked, ...]
    ) -> None:
        for child in await asyncio.to_thread(orphans.end, descendants):
            log.error("%s: child %d (%s) does not die", process.name, child.pid, child.command)

    def _note(self, process: WatchedProcess, verdict: Verdict, action: str, seen: str) -> None:
        beat = process.beat
        self._incidents.note(
            process.name, verdict, action, seen, pid=beat.pid, started=beat.started
        )
