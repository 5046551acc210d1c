"""Old incidents with their evidence, and log files that nobody writes any more."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from autopoll.clock import wall_ms
from autopoll.home import files
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.process import incident_log

# Beside the programs of the settings: these write logs of their own.
_WRITERS = frozenset({"poller", "watchdog", "gateway", "supervisord", "up", "mcp"})
_LOG = re.compile(r"([\w-]+)\.(?:log|stderr|stacks)(\.\d+)?", re.ASCII)
_EVIDENCE = re.compile(r"(\d{8}T\d{6})\.\d{3}-[\w-]+", re.ASCII)

_HEAD = 64 * 1024  # bytes that hold the first incident


class _IncidentLine(msgspec.Struct, frozen=True):
    id: str
    at: str | None = None  # None: a line that says how one has ended


class OldFiles(msgspec.Struct, kw_only=True):
    """How much was removed, or would be."""

    incidents: int = 0
    log_files: int = 0
    file_bytes: int = 0


def remove_old_files(
    home: Home, config: Config, incidents_s: float, logs_s: float, *, dry_run: bool = False
) -> OldFiles:
    """Remove what is older than so many seconds; what cannot be removed is left.

    The file of a program that there is stays, as it may have it open; what it has rotated goes.
    """
    now = wall_ms() / 1000
    found = OldFiles()
    with suppress(OSError):  # a full disk has no room for what is kept of them
        found.incidents = _forget_incidents(home.incidents, now - incidents_s, dry_run=dry_run)
    logs = list(_old_logs(home, config, now - logs_s))
    found.log_files = len(logs)
    folders = list(_old_evidence(home, now - incidents_s))
    evidence = [file for folder in folders for file in _entries(folder)]
    for path in (*logs, *evidence):
        with suppress(OSError):
            found.file_bytes += path.lstat().st_size
            if not dry_run:
                path.unlink()
    for folder in folders if not dry_run else ():
        with suppress(OSError):
            folder.rmdir()
    return found


def _forget_incidents(path: Path, before: float, *, dry_run: bool) -> int:
    """Write the incidents again without the old ones; return how many those are."""
    if before < 0:
        return 0
    moment = datetime.fromtimestamp(before, UTC).isoformat(timespec="milliseconds")
    both = incident_log.rotated(path), path
    if not any(_is_old(line, moment, set()) for each in both for line in _first_lines(each)):
        return 0  # the oldest come first
    old: set[str] = set()
    with incident_log.alone(path):
        for each in both:
            lines = [line for line in _lines(each) if line]
            kept = [line for line in lines if not _is_old(line, moment, old)]
            if len(kept) < len(lines) and not dry_run:
                files.put(each, b"".join(b"\n" + line for line in kept))
    return len(old)


def _is_old(line: bytes, moment: str, old: set[str]) -> bool:
    """Tell whether a line is of an incident before the moment, or says how one of the `old` ended.

    Adds to these. What cannot be read is kept.
    """
    try:
        found = msgspec.json.decode(line, type=_IncidentLine)
    except msgspec.MsgspecError:
        return False
    if found.at is not None and found.at < moment.replace("+00:00", "Z"):
        old.add(found.id)
    return found.id in old


def _first_lines(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD).splitlines()[:2]  # the first is empty
    except FileNotFoundError:
        return []


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except FileNotFoundError:
        return []


def _old_evidence(home: Home, before: float) -> Iterator[Path]:
    for folder in _entries(home.evidence):
        name = _EVIDENCE.fullmatch(folder.name)
        if name is None or folder.is_symlink() or not folder.is_dir():
            continue
        with suppress(ValueError):  # no such day
            if datetime.strptime(f"{name[1]}+0000", "%Y%m%dT%H%M%S%z").timestamp() < before:
                yield folder


def _old_logs(home: Home, config: Config, before: float) -> Iterator[Path]:
    writers = _WRITERS.union(config.instances())
    for path in _entries(home.log):
        name = _LOG.fullmatch(path.name)
        if name is None or (name[1] in writers and name[2] is None):
            continue
        with suppress(OSError):
            if not path.is_symlink() and path.is_file() and path.stat().st_mtime < before:
                yield path


def _entries(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return ()
