"""Starts again what supervisord has given up, and notices when supervisord itself is hung.

supervisord restarts what crashes, but after four deaths in a row it calls a program FATAL and
leaves it for ever. A program an operator has stopped is STOPPED, one with a bad configuration has
exited with 78; neither is touched.
"""

import asyncio
import logging
import time
from collections.abc import Iterable

from autopoll.errors import AutopollError, SupervisorError
from autopoll.process.incident_actions import REPORTED, RESTARTED
from autopoll.process.incident_log import IncidentLog
from autopoll.process.restart_budget import RestartBudget
from autopoll.process.supervisor_rpc import Program, Supervisor
from autopoll.process.verdict import Verdict

SUPERVISORD = "supervisord"
_LOOK_EVERY_S = 5.0
_LIST_EVERY_S = 30.0  # while all programs run: a list costs both sides some milliseconds
_HUNG_AFTER = 3  # time-outs in a row
_SETTLED_AFTER_S = 5  # supervisord passes through EXITED on its way to a restart of its own

log = logging.getLogger(__name__)


class Restarter:
    """The dealings with one supervisord, about all of its programs or about one."""

    def __init__(
        self, supervisor: Supervisor, incidents: IncidentLog, only: str | None = None
    ) -> None:
        self._supervisor = supervisor
        self._incidents = incidents
        self._only = only
        self._budgets: dict[str, RestartBudget] = {}
        self._down_by_intent: set[str] = set()
        self._next_look = self._next_list = 0.0
        self._looking = False
        self._timeouts = 0

    def is_due(self, now: float, missing: Iterable[str]) -> bool:
        """Tell whether to look: every 5 s, and at once while a program that should run does not."""
        if self._looking:
            return False
        in_doubt = 0 < self._timeouts < _HUNG_AFTER
        lost = not self._down_by_intent.issuperset(missing)
        if lost:
            self._next_list = now
        return now >= self._next_look or in_doubt or lost

    async def look(self) -> None:
        """See that supervisord answers, and start the programs it has given up, within budget.

        Asks in a thread, so that a supervisord that stands still stops nothing else.
        """
        self._looking = True
        try:
            if time.monotonic() < self._next_list:
                await asyncio.to_thread(self._supervisor.pid)
                self._answered()
            else:
                await self._look_at_programs()
        except SupervisorError as error:
            self._failed(error)
        finally:
            self._looking = False
            self._next_look = time.monotonic() + _LOOK_EVERY_S

    async def _look_at_programs(self) -> None:
        programs = await asyncio.to_thread(self._supervisor.processes)
        self._answered()
        self._down_by_intent = {each.name for each in programs if _is_down_by_intent(each)}
        # A restarter for one program is used only while that is missing: it lists each time.
        if self._only is None and all(each.state == "RUNNING" for each in programs):
            self._next_list = time.monotonic() + _LIST_EVERY_S
        stopped = [each.name for each in programs if each.state == "STOPPED"]
        self._incidents.leave(stopped, "stopped by an operator")
        for program in programs:
            if self._only in (None, program.name):
                await self._tend(program)

    async def _tend(self, program: Program) -> None:
        name, now = program.full_name, time.monotonic()
        if not _needs_start(program):
            return
        budget = self._budgets.setdefault(name, RestartBudget())
        if now < budget.due:
            return
        budget.spend(now)
        why = program.spawnerr or f"exit status {program.exitstatus}"
        pause = max(0.0, budget.due - now)
        self._incidents.note(
            program.name,
            Verdict.DEAD,
            RESTARTED,
            f"supervisord had given it up ({program.state}: {why}); "
            f"not started again within {pause:.0f} s",
        )
        try:
            await asyncio.to_thread(self._supervisor.start, name)
        except SupervisorError as error:
            if error.hung:
                raise
            log.warning("%s does not start: %s", name, error.what)
        except AutopollError as error:  # it was removed meanwhile
            log.warning("%s: %s", name, error.what)

    def _answered(self) -> None:
        self._timeouts = 0
        self._incidents.close(SUPERVISORD, Verdict.SUPERVISOR_HUNG, time.monotonic())

    def _failed(self, error: SupervisorError) -> None:
        if not error.hung:
            log.debug("%s", error.what)
            return
        self._timeouts += 1
        if self._timeouts == _HUNG_AFTER:
            self._incidents.note(
                SUPERVISORD,
                Verdict.SUPERVISOR_HUNG,
                REPORTED,
                f"{error.what}, {_HUNG_AFTER} times in a row",
            )


def _needs_start(program: Program) -> bool:
    """Tell whether the program should run and supervisord will not start it."""
    if program.refused_settings:
        return False
    settled = program.now - program.stop > _SETTLED_AFTER_S
    return program.is_given_up or (program.state == "EXITED" and settled)


def _is_down_by_intent(program: Program) -> bool:
    """Tell whether an operator or a bad configuration keeps the program down."""
    return program.state in ("STOPPED", "STOPPING") or program.refused_settings
