"""Every kill and restart with its reason, one JSON object a line.

An incident is written when it happens and once more when it is over: its process works again, or
something else has put an end to it, which is said in words. Reading joins the two, and the first
end counts. Appending never rewrites a line, so a writer that is killed cannot damage what is there.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from autopoll.clock import utc_now
from autopoll.process.heartbeat import READY, Beat
from autopoll.process.incident_actions import CONTINUED, KILLED, has_ended
from autopoll.process.proc_stat import boot_id
from autopoll.redact.redact import redact

DEAD = "dead"  # the verdict
_MAX_BYTES = 1024 * 1024

log = logging.getLogger(__name__)


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One kill, restart or failure that a person should be able to explain afterwards."""

    at: str  # UTC, ISO 8601
    process: str
    verdict: str
    action: str
    evidence: str
    recovered_ms: int | None = None  # from the verdict until it worked again
    pid: int = 0
    id: str = ""
    clock: float = 0.0  # CLOCK_MONOTONIC at the verdict, in the boot named
    boot_id: str = ""
    started: int = 0  # of the process, in ticks; with the pid it names it for good
    closed: str | None = None  # how it ended other than by a recovery
    host: str = ""  # empty: written before hosts were

    @property
    def is_over(self) -> bool:
        """Whether nothing is still to come of it."""
        return self.recovered_ms is not None or self.closed is not None

    @property
    def ending(self) -> str:
        """How it ended, for people."""
        if self.recovered_ms is None:
            return self.closed or "not yet"
        return f"works again after {self.recovered_ms / 1000:.1f} s"


class _End(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    recovered_ms: int | None = None
    closed: str | None = None


class _LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """Either of the two kinds of line."""

    id: str
    recovered_ms: int | None = None
    closed: str | None = None
    verdict: str | None = None


def record(
    path: Path,
    *,
    process: str,
    verdict: str,
    action: str,
    evidence: str,
    pid: int = 0,
    started: int = 0,
    clock: float | None = None,
) -> Incident | None:
    """Append an incident, its evidence redacted, and return it; raises OSError on a full disk.

    A death is one incident, however many notice it: None when that of this process, by its pid and
    start time (0: not known), was written before.
    """
    incident = Incident(
        at=utc_now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        process=process,
        verdict=verdict,
        action=action,
        evidence=redact(evidence),
        pid=pid,
        id=os.urandom(6).hex(),
        clock=time.monotonic() if clock is None else clock,
        boot_id=boot_id(),
        started=started,
        host=os.uname().nodename,
    )
    with alone(path):
        if pid and verdict == DEAD and any(_is_same_death(each, incident) for each in read(path)):
            return None
        _append(path, msgspec.json.encode(incident))
    return incident


def recovered(path: Path, incident: Incident, recovered_ms: int) -> None:
    """Append that the process of an incident works again; raises OSError on a full disk."""
    with alone(path):
        _append(path, msgspec.json.encode(_End(id=incident.id, recovered_ms=recovered_ms)))


def close(path: Path, words: str, which: Callable[[Incident], bool]) -> None:
    """Put an end, in words, to the incidents that are not over; raises OSError on a full disk."""
    with alone(path):
        for each in read(path):
            if not each.is_over and which(each):
                _append(path, msgspec.json.encode(_End(id=each.id, closed=words)))


def read(path: Path) -> list[Incident]:
    """Return the incidents that are kept, oldest first, skipping lines that cannot be read."""
    found: dict[str, Incident] = {}
    for line in _lines(path):
        with contextlib.suppress(msgspec.MsgspecError):  # cut short by a full disk, or foreign
            kind = msgspec.json.decode(line, type=_LogLine)
            if kind.verdict is not None:
                found[kind.id] = msgspec.json.decode(line, type=Incident)
            elif kind.id in found and not found[kind.id].is_over:
                found[kind.id] = msgspec.structs.replace(
                    found[kind.id], recovered_ms=kind.recovered_ms, closed=kind.closed
                )
    return list(found.values())


class IncidentLog:
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
        """Record an incident, unless this end is recorded already; on a full disk it is lost."""
        if has_ended(action):
            self.account(process, pid)
        log.warning("%s: %s, %s; %s", process, verdict, action, evidence)
        try:
            incident = record(
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
        """Close the incidents of a process that lives on, whose trouble is over."""
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
            close(self._path, words, lambda each: _awaits(each, names))
        except OSError as error:
            log.error("the end of an incident could not be written: %s", error)

    def waiting(self) -> set[str]:
        """Return the processes that have ended, and of whose successors nothing is known yet."""
        return {each.process for each in self._open if each.pid and has_ended(each.action)}

    def _close(self, incident: Incident, moment: float) -> None:
        try:
            recovered(self._path, incident, round(1000 * (moment - incident.clock)))
        except OSError as error:
            log.error("recovery of %s could not be written: %s", incident.process, error)
        self._open.remove(incident)


def _lines(path: Path) -> Iterator[bytes]:
    for each in (rotated(path), path):
        with contextlib.suppress(FileNotFoundError):
            yield from each.read_bytes().splitlines()


def _is_same_death(one: Incident, other: Incident) -> bool:
    if one.verdict != DEAD and one.action != KILLED:
        return False
    if one.started and other.started and one.started != other.started:
        return False
    return (one.process, one.pid, one.boot_id) == (other.process, other.pid, other.boot_id)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only one that writes to the file."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _append(path: Path, line: bytes) -> None:
    """Append a line in one write; at 1 MB the file becomes the old one, of which one is kept."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size + len(line) > _MAX_BYTES:
            path.rename(rotated(path))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        # The newline leads, so that a line cut short by a full disk spoils itself only.
        os.write(descriptor, b"\n" + line)
    finally:
        os.close(descriptor)


def rotated(path: Path) -> Path:
    """Return the old file of incidents, which another one will take the place of."""
    return path.with_name(f"{path.name}.1")


def _awaits(incident: Incident, names: set[str]) -> bool:
    """Tell whether an incident waits for the successor of one of these processes."""
    return incident.process in names and bool(incident.pid) and has_ended(incident.action)


def _worked_again(incident: Incident, beat: Beat) -> float | None:
    """Return the moment from which the process was at work again, if it is."""
    if beat.state not in READY:
        return None
    if beat.pid != incident.pid:
        # Earlier than the incident, when the death was found only after its successor.
        return max(beat.ready_at or 0.0, incident.clock)
    if incident.action == CONTINUED and beat.loop_beat > incident.clock:
        return beat.loop_beat
    return None  # it is ending, or what is wrong with it is still to pass
