"""Logging of the long-running roles: one JSON object a line, in rotating private files.

Nothing goes to stdout or stderr: supervisord reads those, and a supervisord that stands still
would block whoever writes.
"""

import contextlib
import faulthandler
import fcntl
import logging
import os
import signal
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from autopoll.home.log_line import log_fields, log_line

_MAX_BYTES = 5 * 1024 * 1024
_KEPT = 3
_MAX_STACKS = 1024 * 1024
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def setup(folder: Path, name: str, level: int = logging.INFO, *, shared: bool = False) -> None:
    """Send every log record of this process to `folder/<name>.log`, three of 5 MB, mode 0600.

    With `shared`, several processes of the same name may run beside each other.

    On SIGUSR1, and on a crash of the interpreter, the stacks of all threads are appended to
    `folder/<name>.stacks`. A full disk costs records, never the process. Raises OSError when a
    file cannot be opened.
    """
    handler = (_SharedFile if shared else _PrivateFile)(folder / f"{name}.log")
    handler.setFormatter(_JsonFormatter(name))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    stacks = _open_private(folder / f"{name}.stacks")
    if stacks.tell() > _MAX_STACKS:
        stacks.truncate(0)
    faulthandler.enable(stacks)
    faulthandler.register(signal.SIGUSR1, stacks)  # and keeps the file open


class _JsonFormatter(logging.Formatter):
    """Adds `logger`, `text`, `trace` of an exception, and any extras to a line of a process."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = log_fields(self._process, record.levelname.lower(), record.created)
        line |= {"logger": record.name, "text": record.getMessage()}
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return log_line(line)


class _PrivateFile(RotatingFileHandler):
    """A rotating file that only its owner reads."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=_MAX_BYTES, backupCount=_KEPT - 1, encoding="utf-8")

    def _open(self) -> TextIOWrapper:
        stream = _open_private(Path(self.baseFilename))
        try:
            _end_last_line(stream.fileno())
        except OSError:
            stream.close()
            raise
        return stream

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop the record, and reopen the file for the next: there may be room again."""
        stream, self.stream = self.stream, None
        if stream is not None:
            with contextlib.suppress(OSError):  # closing flushes, and there is still no room
                stream.close()


class _SharedFile(_PrivateFile):
    """A rotating file that several processes append to; one of them rotates it for all."""

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        """Follow the file where another process has rotated it, and tell whether it is full."""
        if self._replaced():
            self._reopen()
        return bool(super().shouldRollover(record))

    def doRollover(self) -> None:
        """Rotate, unless another process was faster."""
        if self.stream is None:
            return
        # The lock lies on the full file itself, and lives on in the copy when that is closed.
        copy = os.dup(self.stream.fileno())
        try:
            fcntl.flock(copy, fcntl.LOCK_EX)
            if self._replaced():
                self._reopen()
            else:
                super().doRollover()
        finally:
            os.close(copy)

    def _replaced(self) -> bool:
        if self.stream is None:
            return True
        mine = os.fstat(self.stream.fileno())
        try:
            there = Path(self.baseFilename).stat()
        except OSError:
            return True
        return (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino)

    def _reopen(self) -> None:
        if self.stream is not None:
            self.stream.close()
        self.stream = self._open()


def _open_private(path: Path) -> TextIOWrapper:
    """Open a file for appending that only its owner reads, whatever it was before."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return open(descriptor, "a", encoding="utf-8")  # noqa: PTH123 - a descriptor has no Path


def _end_last_line(descriptor: int) -> None:
    """End a line that a full disk has cut short, so that it spoils no other."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.write(descriptor, b"\n")
