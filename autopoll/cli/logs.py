"""The logs of every role, as one."""

import json
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.output import say
from autopoll.cli.render import print_json
from autopoll.clock import zoned
from autopoll.errors import NotFound

FOLLOW_S = 0.2
CHUNK = 1024 * 1024


@command(
    "logs",
    fields='{"process","at","level","logger","text",…} a line',
    example="autopoll logs\nautopoll logs poller -f",
)
@click.argument("name", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option(
    "--last",
    "-n",
    type=click.IntRange(0, 100_000),
    default=50,
    show_default=True,
    help="The newest so many lines.",
)
def logs(cli: CommandLine, name: str | None, follow: bool, last: int) -> None:
    """Show the log of process NAME (as in `autopoll status`, or supervisord), or all logs."""
    folder = cli.home.log
    tails: dict[Path, Tail] = {}
    lines: list[dict[str, Any]] = []
    for path in _files(folder, name):
        tails[path] = Tail(path)
        lines += tails[path].last(last)
    lines.sort(key=lambda line: str(line.get("at", "")))
    for line in lines[len(lines) - min(last, len(lines)) :]:
        _print_line(cli, line)
    while follow:
        time.sleep(FOLLOW_S)
        for path in _files(folder, name):
            if path not in tails:
                tails[path] = Tail(path)
        for tail in tails.values():
            for line in tail.fresh():
                _print_line(cli, line)


class Tail:
    """One log file that is read on and on, through its rotations."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = path.name.removesuffix(".log")
        self._file = -1
        self._rest = b""

    def last(self, count: int) -> list[dict[str, Any]]:
        """Return the newest lines, those rotated away a moment ago too, and stand at the end."""
        older = self._path.with_name(f"{self._path.name}.1")
        kept: deque[dict[str, Any]] = deque(maxlen=count)
        with suppress(OSError):
            kept.extend(self._parse(older.read_bytes()))
        kept.extend(self.fresh())
        return list(kept)

    def fresh(self) -> Iterator[dict[str, Any]]:
        """Yield the lines that came since."""
        while True:
            if self._file < 0:
                try:
                    self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                except OSError:  # not there yet, or between two rotations
                    return
            while data := os.read(self._file, CHUNK):
                whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
                if newline:
                    yield from self._parse(whole)
            if not self._rotated():
                return
            os.close(self._file)
            self._file, self._rest = -1, b""

    def _rotated(self) -> bool:
        try:
            return self._path.stat().st_ino != os.fstat(self._file).st_ino
        except OSError:
            return False

    def _parse(self, data: bytes) -> Iterator[dict[str, Any]]:
        for raw in data.splitlines():
            text = raw.decode("utf-8", "replace")
            if not text.strip():
                continue
            try:
                fields = json.loads(text)
            except ValueError:
                fields = None
            if isinstance(fields, dict):
                yield {"process": self._name, **fields}
            else:
                yield {"process": self._name, "at": _stamp(text), "text": text}


def _files(folder: Path, name: str | None) -> list[Path]:
    """Return the log files of one process, or of all."""
    if name is None:
        return sorted([*folder.glob("*.log"), *folder.glob("*.stderr")])
    found = [
        path
        for path in sorted(folder.glob("*"))
        if path.name in (f"{name}.log", f"{name}.stderr") and path.is_file()
    ]
    if not found:
        known = sorted({path.stem for path in folder.glob("*.log")})
        raise NotFound(
            f"there is no log of {name!r} in {folder}",
            f"There are: {', '.join(known)}." if known else "Nothing has run here yet.",
        )
    return found


def _stamp(text: str) -> str:
    """Return supervisord's `2026-01-31 12:00:00,123` in the form of ours, "" for other lines.

    It writes local time and no zone.
    """
    try:
        moment = datetime.strptime(text[:23], "%Y-%m-%d %H:%M:%S,%f").astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    return moment.isoformat(timespec="milliseconds")


def _print_line(cli: CommandLine, line: dict[str, Any]) -> None:
    if cli.json:
        print_json(line)
        return
    known = ("process", "at", "level", "logger", "text", "trace", "stack")
    more = " ".join(f"{key}={value}" for key, value in line.items() if key not in known)
    words = (
        zoned(str(line.get("at", "")), "milliseconds"),
        line["process"],
        line.get("level", ""),
        line.get("text", ""),
        more,
    )
    say(" ".join(str(word) for word in words if word))
    for key in ("trace", "stack"):
        if key in line:
            say(str(line[key]))
