"""Every kill and restart with its reason, one JSON object a line.

An incident is written when it happens and once more when its process works again; reading joins
the two. Appending never rewrites a line, so a writer that is killed cannot damage what is there.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from autopoll.process.vitals import boot_id
from autopoll.redact import redact
from autopoll.timing import utc_now

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


class _Recovery(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    recovered_ms: int


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """Either of the two kinds of line."""

    id: str
    recovered_ms: int | None = None
    verdict: str | None = None


def record(
    path: Path,
    *,
    process: str,
    verdict: str,
    action: str,
    evidence: str,
    pid: int = 0,
    clock: float | None = None,
) -> Incident:
    """Append an incident, its evidence redacted, and return it; raises OSError on a full disk."""
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
    )
    _append(path, msgspec.json.encode(incident))
    return incident


def recovered(path: Path, incident: Incident, recovered_ms: int) -> None:
    """Append that the process of an incident works again; raises OSError on a full disk."""
    _append(path, msgspec.json.encode(_Recovery(id=incident.id, recovered_ms=recovered_ms)))


def read(path: Path) -> list[Incident]:
    """Return the incidents that are kept, oldest first, skipping lines that cannot be read."""
    found: dict[str, Incident] = {}
    for line in _lines(path):
        with contextlib.suppress(msgspec.MsgspecError):  # cut short by a full disk, or foreign
            kind = msgspec.json.decode(line, type=_Line)
            if kind.verdict is not None:
                found[kind.id] = msgspec.json.decode(line, type=Incident)
            elif kind.id in found:
                found[kind.id] = msgspec.structs.replace(
                    found[kind.id], recovered_ms=kind.recovered_ms
                )
    return list(found.values())


def _lines(path: Path) -> Iterator[bytes]:
    for each in (_rotated(path), path):
        with contextlib.suppress(FileNotFoundError):
            yield from each.read_bytes().splitlines()


def _append(path: Path, line: bytes) -> None:
    """Append a line in one write; at 1 MB the file becomes the old one, of which one is kept."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # of two writers, one rotates
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
    finally:
        os.close(folder)


def _rotated(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")
