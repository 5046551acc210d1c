"""The incidents of a home as the watchdog keeps them: none missed, none twice, each closed.

What matters is in the file, so that a restarted watchdog goes on where the one before ended. Of two
that write to one file, each closes only what it has opened or was given.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from autopoll.process import incident_log
from autopoll.process.actions import CONTINUED, has_ended
from autopoll.process.heartbeat import Beat, State
from autopoll.process.incident_log import Incident
from autopoll.process.vitals import boot_id

_AT_WORK = (State.IDLE, State.BUSY)

log = logging.getLogger(__name__)


class Casebook:
    """Open incidents, and the deaths that are accounted for."""

    def __init__(self, path: Path, before: Iterable[Incident] = ()) -> None:
        """Write to this file; go on from the incidents that were `before`."""
        self._path = path
        known = [each for each in before if each.boot_id == boot_id()]
        self._open = [each for each in known if not each.is_over]
        self._accounted = {(each.process, each.pid) for each in known if has_ended(each.action)}

    def note(
        self,
        process: str,
        verdict: str,
        action: str,
        evidence: str,
        *,
        pid: int = 0,
        started: int = 0,
        clock: float | None = None,
    ) -> None:
        """Record an incident, unless another has recorded this end; on a full disk it goes to
        nobody, and the watch goes on."""
        if has_ended(action):
            self.account(process, pid)
        log.warning("%s: %s, %s; %s", process, verdict, action, evidence)
        try:
            incident = incident_log.record(
                self._path,
                process=process,
                verdict=verdict,
                action=action,
                evidence=evidence,
                pid=pid,
                started=started,
                clock=clock,
            )
        except OSError as error:
            log.error("incident of %s could not be written: %s", process, error)
        else:
            self._open += [incident] if incident else []

    def account(self, process: str, pid: int) -> None:
        """Remember that the death of this incarnation needs no incident (any more)."""
        self._accounted.add((process, pid))

    def is_accounted(self, process: str, pid: int) -> bool:
        """Tell whether the death of this incarnation is an incident already, or is none."""
        return (process, pid) in self._accounted

    def close_recovered(self, living: Iterable[Beat]) -> None:
        """Close the incidents of processes that work again, given the beats of all that live."""
        if not self._open:
            return
        by_name = {beat.name: beat for beat in living}
        for incident in list(self._open):
            beat = by_name.get(incident.process)
            moment = _worked_again(incident, beat) if beat else None
            if moment is not None:
                self._close(incident, moment)

    def close(self, process: str, verdict: str, moment: float) -> None:
        """Close the incidents of a process that lives on, for what was wrong with it is over."""
        for incident in list(self._open):
            mine = (incident.process, incident.verdict) == (process, verdict)
            if mine and not has_ended(incident.action):
                self._close(incident, moment)

    def succeeded(self, process: str, pid: int, moment: float) -> None:
        """Close the incidents of those before this one, which works from this moment."""
        for incident in list(self._open):
            if incident.process == process and has_ended(incident.action) and incident.pid != pid:
                self._close(incident, moment)

    def leave(self, processes: Iterable[str], words: str) -> None:
        """Close the ends of these processes with words: nothing more is to come."""
        names = set(processes)
        if not any(_awaits(incident, names) for incident in self._open):
            return
        self._open = [each for each in self._open if not _awaits(each, names)]
        try:
            incident_log.close(self._path, words, lambda each: _awaits(each, names))
        except OSError as error:
            log.error("the end of an incident could not be written: %s", error)

    def waiting(self) -> set[str]:
        """Return the processes that have ended, and of whose successors nothing is known yet."""
        return {each.process for each in self._open if each.pid and has_ended(each.action)}

    def _close(self, incident: Incident, moment: float) -> None:
        try:
            incident_log.recovered(self._path, incident, round(1000 * (moment - incident.clock)))
        except OSError as error:
            log.error("recovery of %s could not be written: %s", incident.process, error)
        self._open.remove(incident)


def _awaits(incident: Incident, names: set[str]) -> bool:
    """Tell whether an incident waits for the successor of one of these processes."""
    return incident.process in names and bool(incident.pid) and has_ended(incident.action)


def _worked_again(incident: Incident, beat: Beat) -> float | None:
    """Return the moment from which the process was at work again, if it is."""
    if beat.state not in _AT_WORK:
        return None
    if beat.pid != incident.pid:
        # Earlier than the incident, when the death was found only after its successor.
        return max(beat.ready_at or 0.0, incident.clock)
    if incident.action == CONTINUED and beat.loop_beat > incident.clock:
        return beat.loop_beat
    return None  # it is ending, or what is wrong with it is still to pass
