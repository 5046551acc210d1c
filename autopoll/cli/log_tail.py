"""The log files of a home, read as records: the newest of them, and those that come since."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autopoll.errors import NotFound

CHUNK = 1024 * 1024
_LINE = 1024  # bytes, as long as most are
_LONGEST = 1000  # lines of one record that is not ours

Record = dict[str, Any]


class Tail:
    """One log file that is read on and on, through its rotations and truncations.

    What is written there by no formatter, as a traceback, is one record of several lines, at the
    time of the record before it, or of the file.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name.removesuffix(".log")
        self._path = path
        self._file = -1
        self._place = 0
        self._rest = b""
        self._last_at = ""

    def last(self, count: int, since: str = "") -> list[Record]:
        """Return the newest records, those rotated away too, and stand at the end."""
        kept = [] if since else self._newest(count)
        if len(kept) < count:
            self._start_at(0)
            kept = [record for record in self.fresh() if at_of(record) >= since]
        for ending in (".1", ".2"):
            if len(kept) >= count:
                break
            with suppress(OSError):
                data = self._path.with_name(f"{self._path.name}{ending}").read_bytes()
                older = self._records(data.splitlines()[-count:])
                kept = [record for record in older if at_of(record) >= since] + kept
        return kept[len(kept) - min(count, len(kept)) :]

    def _newest(self, count: int) -> list[Record]:
        """Return the records at the end of the file, which may be more or fewer than `count`."""
        try:
            size = self._path.stat().st_size
        except OSError:
            return []
        self._start_at(max(0, size - (count + 1) * _LINE))
        return list(self.fresh())

    def _start_at(self, place: int) -> None:
        """Have the file read from the first line that begins beyond a place."""
        self.close()
        self._rest, self._place = b"", 0
        if place and self._open():
            os.lseek(self._file, place - 1, os.SEEK_SET)
            self._place = place + os.read(self._file, CHUNK).find(b"\n")
            os.lseek(self._file, self._place, os.SEEK_SET)

    def _open(self) -> bool:
        """Open the file if need be; tell whether it is there."""
        if self._file < 0:
            try:
                self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:  # not there yet, or between two rotations
                return False
        return True

    def fresh(self) -> Iterator[Record]:
        """Yield the records that came since."""
        while True:
            if not self._open():
                return
            if os.fstat(self._file).st_size < self._place:  # it was truncated
                os.lseek(self._file, 0, os.SEEK_SET)
                self._place, self._rest = 0, b""
            # Before the last of it is read: what is written until then belongs to this file.
            rotated = self._rotated()
            while data := os.read(self._file, CHUNK):
                self._place += len(data)
                whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
                if newline:
                    yield from self._records(whole.split(b"\n"))
            if not rotated:
                return
            os.close(self._file)
            self._file, self._place, self._rest = -1, 0, b""

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _rotated(self) -> bool:
        try:
            return self._path.stat().st_ino != os.fstat(self._file).st_ino
        except OSError:
            return False

    def _records(self, lines: Iterable[bytes]) -> Iterator[Record]:
        loose: list[str] = []
        for raw in lines:
            text = raw.decode("utf-8", "replace").rstrip("\r")
            record = _record(text)
            # A torn record of ours goes on in no other line.
            if loose and (record or text[:1] in ("{", "[") or len(loose) == _LONGEST):
                yield self._loose(loose)
                loose = []
            if record is not None:
                self._last_at = at_of(record) or self._last_at
                yield {"process": self.name, **record}
            elif text.strip() or loose:
                loose.append(text)
        if any(text.strip() for text in loose):
            yield self._loose(loose)

    def _loose(self, lines: list[str]) -> Record:
        """Return one record of lines that say no time."""
        return {
            "process": self.name,
            "at": self._last_at or self._written(),
            "text": "\n".join(lines).rstrip(),  # as blank lines may follow
        }

    def _written(self) -> str:
        try:
            moment = datetime.fromtimestamp(self._path.stat().st_mtime, UTC)
        except OSError:
            return ""
        return moment.isoformat(timespec="milliseconds")


def log_files(folder: Path, name: str | None) -> list[Path]:
    """Return the log files of one process, or of all, as far as they are there."""
    found = sorted([*folder.glob("*.log"), *folder.glob("*.stderr")])
    return found if name is None else [path for path in found if path.stem == name]


def require_log(folder: Path, name: str) -> None:
    """Raise NotFound for a process that has no log."""
    if not log_files(folder, name):
        known = sorted({path.stem for path in folder.glob("*.log")})
        raise NotFound(
            f"there is no log of {name!r} in {folder}",
            f"There are: {', '.join(known)}." if known else "Nothing has run here yet.",
        )


def merged(records: Iterable[Record]) -> list[Record]:
    """Return records of several files by their times; those of one file keep their order."""
    return sorted(records, key=at_of)


def record_line(record: Record) -> str:
    """Return a record as people read it: time, process, level, text, what more there is, stacks."""
    from autopoll.clock import zoned

    known = ("process", "at", "level", "logger", "text", "message", "trace", "stack")
    more = " ".join(f"{key}={value}" for key, value in record.items() if key not in known)
    text = record.get("text", record.get("message", ""))
    at = zoned(at_of(record), "milliseconds")
    words = (at, record["process"], record.get("level", ""), text, more)
    line = " ".join(str(word) for word in words if word)
    return "\n".join([line, *(str(record[key]) for key in ("trace", "stack") if key in record)])


def at_of(record: Record) -> str:
    """Return the time of a record, "" when it says none."""
    return str(record.get("at", ""))


def _record(text: str) -> Record | None:
    """Return the record that a line is; None for a line of something else."""
    if text.startswith("{"):
        with suppress(ValueError, RecursionError):
            fields = json.loads(text)
            if isinstance(fields, dict):
                return fields
    at = _stamp(text)
    return {"at": at, "text": text} if at else None


def _stamp(text: str) -> str:
    """Return supervisord's `2026-01-31 12:00:00,123` in the form of ours, "" for other lines.

    It writes local time and no zone.
    """
    if not text[:4].isdigit():
        return ""
    try:
        moment = datetime.strptime(text[:23], "%Y-%m-%d %H:%M:%S,%f").astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    return moment.isoformat(timespec="milliseconds")
