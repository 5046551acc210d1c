"""What a report of a fault needs, in one file, without secrets and without questions or answers."""

import io
import os
import platform
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import distributions
from pathlib import Path

import msgspec

from autopoll import __version__
from autopoll.bridge.connect import connect
from autopoll.clock import wall_ms
from autopoll.errors import AutopollError, UsageError
from autopoll.ops.doctor.subject import Subject
from autopoll.ops.doctor.walk import DoctorReport
from autopoll.process import incident_log
from autopoll.redact.redact import redact

_TAIL = 200_000  # bytes of each log
_LARGEST = 20_000_000  # bytes of all, before they are packed
_INCIDENTS = 200


def write_bundle(
    subject: Subject, found: DoctorReport, target: Path, report: Callable[[str], None]
) -> list[str]:
    """Write a private .tar.gz and return the names of what is in it.

    Raises UsageError where something lies there already, and OSError.
    """
    if os.path.lexists(target):
        raise _is_there(target)
    held, names, room = io.BytesIO(), [], _LARGEST
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for name, text in _parts(subject, found):
            report(f"packing: {name}")
            data = redact(text).encode("utf-8", "replace")
            room -= len(data)
            if room < 0:
                break
            member = tarfile.TarInfo(f"autopoll-report/{name}")
            member.size, member.mode, member.mtime = len(data), 0o600, wall_ms() // 1000
            archive.addfile(member, io.BytesIO(data))
            names.append(name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(target, flags, 0o600)
    except FileExistsError as error:
        raise _is_there(target) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(held.getvalue())
    return names


def _is_there(target: Path) -> UsageError:
    return UsageError(f"{target} is there already", "Name a file that is not.")


def _parts(subject: Subject, found: DoctorReport) -> Iterator[tuple[str, str]]:
    home = subject.home
    yield "doctor.json", _json(found.findings)
    yield "versions.txt", _versions()
    yield "environment.txt", "\n".join(sorted(os.environ))  # names only
    if subject.status is not None:
        yield "status.json", _json(subject.status)
    for path in (home.config, home.supervisord_conf, *_entries(home.shard_files)):
        yield f"settings/{path.name}", _text(path)
    yield "incidents.json", _json(incident_log.read(home.incidents)[-_INCIDENTS:])
    if counts := _counts(subject):
        yield "bridge.json", counts
    for path in _entries(home.log):
        yield f"logs/{path.name}", _text(path, _TAIL)


def _versions() -> str:
    lines = [
        f"autopoll {__version__}",
        f"Python {sys.version}",
        platform.platform(),
        *sorted(f"{each.name} {each.version}" for each in distributions()),
    ]
    return "\n".join(lines)


def _counts(subject: Subject) -> str:
    """Return numbers of the bridge; nothing where it cannot be read."""
    if subject.config is None:
        return ""
    try:
        with closing(connect(subject.home, subject.config, read_only=True)) as bridge:
            return _json({"counts": bridge.overview.counts(), "homes": bridge.overview.homes()})
    except AutopollError as error:
        return _json({"error": str(error)})


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode("utf-8", "replace")


def _text(path: Path, last: int = 1_000_000) -> str:
    """Return the end of a file that is ours, or why it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            file.seek(max(0, os.fstat(descriptor).st_size - last))
            return file.read(last).decode("utf-8", "replace")
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return []
