"""The processes that are watched: found by their heartbeats, left when they end.

An end shows at once, through a pidfd, or with the next look where there are none. It is an incident
unless it was meant or our doing. It is also found afterwards: by a heartbeat whose process is gone,
and by what the next incarnation says of the one before.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterator

from autopoll.home.home import Home
from autopoll.process import heartbeat, signals
from autopoll.process.heartbeat import Beat, ProcessState
from autopoll.process.heartbeat_writer import Heart
from autopoll.process.incident_actions import DRAINED, LEFT
from autopoll.process.incident_log import IncidentLog
from autopoll.process.verdict import Verdict
from autopoll.watchdog.background import BackgroundTasks
from autopoll.watchdog.evidence import last_state
from autopoll.watchdog.remedy import Remedy
from autopoll.watchdog.watched import WatchedProcess

REAPED_S = 0.2  # the exit status is known once supervisord has waited for the process

log = logging.getLogger(__name__)


class WatchList:
    """All processes of the home that live, other than the watchdog itself."""

    def __init__(
        self,
        home: Home,
        heart: Heart,
        incidents: IncidentLog,
        remedy: Remedy,
        tasks: BackgroundTasks,
    ) -> None:
        self._home = home
        self._heart = heart
        self._incidents = incidents
        self._remedy = remedy
        self._tasks = tasks
        self._processes: dict[str, WatchedProcess] = {}

    def __iter__(self) -> Iterator[WatchedProcess]:
        return iter(self._processes.values())

    def is_living(self, beat: Beat) -> bool:
        """Tell whether the process that beat is one we watch, or ourselves."""
        return beat.name in self._processes or beat.name == self._heart.name

    def update(self, beat: Beat) -> WatchedProcess | None:
        """Take a beat, of a process that may be new, and return the process if it is watched."""
        process = self._processes.get(beat.name)
        if process and process.beat.is_of_same_process(beat):
            process.beat = beat
            return process
        if process:
            self._end(process)
        if beat.crashed and not self._incidents.is_accounted(beat.name, beat.crashed):
            self._note_missed(beat.name, beat.crashed, f"{beat.name} runs again as {beat.pid}")
        if beat.name != self._heart.name and not beat.state.is_over:
            self._add(beat)
        return self._processes.get(beat.name)

    def _add(self, beat: Beat) -> None:
        """Watch a process, unless it is dead, though perhaps not yet reaped."""
        pidfd = signals.open_process(beat.pid, beat.started)
        if pidfd is not None and not signals.is_ready(pidfd):
            process = self._processes[beat.name] = WatchedProcess(beat, pidfd)
            self._listen(process)
            return
        if pidfd is not None:
            os.close(pidfd)
        if not self._incidents.is_accounted(beat.name, beat.pid):
            self._note_missed(beat.name, beat.pid, last_state(beat), beat.started)

    def _listen(self, process: WatchedProcess) -> None:
        """Have the end of a process noticed at once, or where there are no pidfds, with a look."""
        if signals.is_pidfd(process.pidfd):
            asyncio.get_running_loop().add_reader(process.pidfd, self._end, process)
            return
        process.is_polled = True
        if not self._heart.note:
            self._heart.note = "there are no pidfds here: a death is noticed within a second"
            log.warning("%s", self._heart.note)

    def notice_ends(self) -> None:
        """Look which of those without a pidfd have ended."""
        for process in list(self):
            if process.is_polled and signals.is_ready(process.pidfd):
                self._end(process)

    def _note_missed(self, name: str, pid: int, seen: str, started: int = 0) -> None:
        """Record a death that was found afterwards."""
        self._incidents.note(
            name, Verdict.DEAD, LEFT, f"found dead; {seen}", pid=pid, started=started
        )

    def _end(self, process: WatchedProcess) -> None:
        """Watch a process no longer, and see to what its end leads to."""
        if not process.is_polled:
            asyncio.get_running_loop().remove_reader(process.pidfd)
        beat = process.beat
        del self._processes[beat.name]
        process.ended.set()
        latest = heartbeat.read(self._home.beats / beat.name)
        if process.was_killed or (latest and _ended_well(latest, beat)):
            os.close(process.pidfd)
            self._incidents.account(beat.name, beat.pid)
        else:
            self._tasks.begin(self._account_for(process, time.monotonic()))
        if process.draining_since is not None:
            self._tasks.begin(self._remedy.end_descendants(process))
        elif latest and latest.is_of_same_process(beat) and latest.state is ProcessState.RETIRED:
            self._incidents.note(beat.name, Verdict.RECYCLED, DRAINED, latest.note, pid=beat.pid)

    async def _account_for(self, process: WatchedProcess, clock: float) -> None:
        """Record a death together with what it died of."""
        beat = process.beat
        try:
            await asyncio.sleep(REAPED_S)
        finally:  # also when we have to end meanwhile
            cause = _cause(signals.exit_status(process.pidfd))
            os.close(process.pidfd)
            self._incidents.note(
                beat.name,
                Verdict.DEAD,
                LEFT,
                f"{cause}; {last_state(beat)}",
                pid=beat.pid,
                started=beat.started,
                clock=clock,
            )


def _ended_well(latest: Beat, beat: Beat) -> bool:
    """Tell from the latest beat whether an incarnation that is dead had said that it was ending."""
    if latest.is_of_same_process(beat):
        return latest.state.is_over
    return latest.crashed != beat.pid


def _cause(status: int | None) -> str:
    if status is None:
        return "exit status unknown"
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
