"""Every kill and restart with its reason, one JSON object a line.

An incident is written when it happens and once more when it is over: its process works again, or
something else has put an end to it, which is said in words. Reading joins the two, and the first
end counts. Appending never rewrites a line, so a writer that is killed cannot damage what is there.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from autopoll.clock import utc_now
from autopoll.process.actions import KILLED
from autopoll.process.vitals import boot_id
from autopoll.redact.redact import redact

DEAD = "dead"  # the verdict
_MAX_BYTES = 1024 * 1024


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


class _Line(msgspec.Struct, frozen=True, kw_only=True):
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

    A death is one incident, whoever sees it: None when that of this process, by its pid and start
    time (0: not known), was written before.
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
    )
    with _alone(path):
        if pid and verdict == DEAD and any(_is_same_death(each, incident) for each in read(path)):
            return None
        _append(path, msgspec.json.encode(incident))
    return incident


def recovered(path: Path, incident: Incident, recovered_ms: int) -> None:
    """Append that the process of an incident works again; raises OSError on a full disk."""
    with _alone(path):
        _append(path, msgspec.json.encode(_End(id=incident.id, recovered_ms=recovered_ms)))


def close(path: Path, words: str, which: Callable[[Incident], bool]) -> None:
    """Put an end, in words, to the incidents that are not over; raises OSError on a full disk."""
    with _alone(path):
        for each in read(path):
            if not each.is_over and which(each):
                _append(path, msgspec.json.encode(_End(id=each.id, closed=words)))


def read(path: Path) -> list[Incident]:
    """Return the incidents that are kept, oldest first, skipping lines that cannot be read."""
    found: dict[str, Incident] = {}
    for line in _lines(path):
        with contextlib.suppress(msgspec.MsgspecError):  # cut short by a full disk, or foreign
            kind = msgspec.json.decode(line, type=_Line)
            if kind.verdict is not None:
                found[kind.id] = msgspec.json.decode(line, type=Incident)
            elif kind.id in found and not found[kind.id].is_over:
                found[kind.id] = msgspec.structs.replace(
                    found[kind.id], recovered_ms=kind.recovered_ms, closed=kind.closed
                )
    return list(found.values())


def _lines(path: Path) -> Iterator[bytes]:
    for each in (_rotated(path), path):
        with contextlib.suppress(FileNotFoundError):
            yield from each.read_bytes().splitlines()


def _is_same_death(one: Incident, other: Incident) -> bool:
    if one.verdict != DEAD and one.action != KILLED:
        return False
    if one.started and other.started and one.started != other.started:
        return False
    return (one.process, one.pid, one.boot_id) == (other.process, other.pid, other.boot_id)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
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
            path.rename(_rotated(path))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        # The newline leads, so that a line cut short by a full disk spoils itself only.
        os.write(descriptor, b"\n" + line)
    finally:
        os.close(descriptor)


def _rotated(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")
