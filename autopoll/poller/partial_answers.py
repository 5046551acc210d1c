"""What the poller keeps of answers that are still being written, for whoever follows them.

A file per attempt in var/run/partial, gone as soon as the attempt is over: then the answer counts,
or the next attempt. Losing one costs nobody an answer.
"""

import logging
import os
import stat
from pathlib import Path

import msgspec

from autopoll.home.home import Home
from autopoll.redact.redact import redact, settled

LARGEST = 1024 * 1024  # bytes kept of one answer
HELD = 16 * 1024  # characters that are held back, lest they become a secret
_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # no link is followed, no pipe holds us

log = logging.getLogger(__name__)


class _Growing(msgspec.Struct):
    held: str = ""  # may be the beginning of a secret
    size: int = 0  # bytes written
    full: bool = False  # nothing more is kept


class Partials:
    """What the poller keeps of the answers that are being written."""

    def __init__(self, home: Home, *, redacting: bool) -> None:
        """Sweep what an earlier poller left."""
        self._home = home
        self._redacting = redacting
        self._growing: dict[tuple[int, int], _Growing] = {}
        for path in home.partials.iterdir() if home.partials.is_dir() else ():
            _remove(path)

    def add(self, message_id: int, attempt: int, piece: str) -> bool:
        """Keep the next piece of an attempt's answer; tell whether there is more to read now."""
        growing = self._growing.setdefault((message_id, attempt), _Growing())
        if growing.full:
            return False
        text = growing.held + piece
        cut = settled(text) if self._redacting else len(text)
        growing.held = text[cut:]
        ready = redact(text[:cut]) if self._redacting else text
        data = ready.encode("utf-8", "replace")
        if growing.size + len(data) > LARGEST or len(growing.held) > HELD:
            growing.full, growing.held = True, ""
            return False
        if not data:
            return False
        path = self._home.partial(message_id, attempt)
        try:
            _append(path, data, first=growing.size == 0)
        except OSError as error:
            log.warning("the pieces of answer %s are not shown: %s", path.name, error)
            growing.full, growing.held = True, ""
            return False
        growing.size += len(data)
        return True

    def drop(self, message_id: int, attempt: int) -> None:
        """Forget an attempt that is over."""
        growing = self._growing.pop((message_id, attempt), None)
        if growing and growing.size:
            _remove(self._home.partial(message_id, attempt))


def _append(path: Path, data: bytes, *, first: bool) -> None:
    """Write to a file of our own; a new attempt may bear the name of one that never was one."""
    if first:
        path.unlink(missing_ok=True)
    create = os.O_CREAT | os.O_EXCL if first else 0  # once somebody removed it, it stays away
    file = os.open(path, os.O_WRONLY | os.O_APPEND | _SAFE | create, 0o600)
    try:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            raise OSError(f"{path} is not ours")
        while data:
            data = data[os.write(file, data) :]
    finally:
        os.close(file)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)
