"""Answers that are still being written, as far as they have come, for askers to read along.

A file per attempt in var/run/partial, removed as soon as the attempt is over: then the answer
counts, or the next attempt. Losing one costs nobody an answer.
"""

import logging
import os
import stat
from pathlib import Path

import msgspec

from autopoll.bridge.poller_protocol import AnswerText
from autopoll.bridge.records import Delivery
from autopoll.home.home import Home
from autopoll.redact.redact import redact, settled

LARGEST = 1024 * 1024  # bytes kept of one answer
HELD = 16 * 1024  # characters that are held back, as they may become a secret
_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # no link is followed, no pipe blocks us

log = logging.getLogger(__name__)


class _Partial(msgspec.Struct):
    attempt: int
    parts: list[str] = []  # what may be shown
    held: str = ""  # may be the beginning of a secret
    size: int = 0  # bytes written
    full: bool = False  # nothing more is kept


class PartialAnswers:
    """The files of the attempts in flight."""

    def __init__(self, home: Home, *, redacting: bool) -> None:
        """Remove what an earlier poller left."""
        self._home = home
        self._redacting = redacting
        self._partials: dict[tuple[int, int], _Partial] = {}  # by question and fence
        for path in home.partials.iterdir() if home.partials.is_dir() else ():
            _remove(path)

    def so_far(self, message_id: int) -> AnswerText | None:
        """Return what was kept of a question's newest attempt, if anything."""
        fences = [fence for number, fence in self._partials if number == message_id]
        if not fences:
            return None
        partial = self._partials[message_id, max(fences)]
        text = "".join(partial.parts)
        return AnswerText(message_id, partial.attempt, max(fences), text, so_far=True)

    def add(self, delivery: Delivery, piece: str) -> str:
        """Keep the next piece of an attempt's answer; return what there is more to read now."""
        message_id, attempt = delivery.message_id, delivery.attempt
        partial = self._partials.setdefault((message_id, delivery.fence), _Partial(attempt))
        if partial.full:
            return ""
        text = partial.held + piece
        cut = settled(text) if self._redacting else len(text)
        partial.held = text[cut:]
        ready = redact(text[:cut]) if self._redacting else text
        data = ready.encode("utf-8", "replace")
        if partial.size + len(data) > LARGEST or len(partial.held) > HELD:
            partial.full, partial.held = True, ""
            return ""
        if not data:
            return ""
        path = self._home.partial(message_id, attempt)
        try:
            _append(path, data, first=partial.size == 0)
        except OSError as error:
            log.warning("the pieces of answer %s cannot be shown: %s", path.name, error)
            partial.full, partial.held = True, ""
            return ""
        partial.size += len(data)
        partial.parts.append(ready)
        return ready

    def remove(self, delivery: Delivery) -> None:
        """Remove what was kept of an attempt that is over."""
        partial = self._partials.pop((delivery.message_id, delivery.fence), None)
        if partial and partial.size:
            _remove(self._home.partial(delivery.message_id, delivery.attempt))


def _append(path: Path, data: bytes, *, first: bool) -> None:
    """Append to a file of our own; the `first` piece replaces whatever bears its name."""
    if first:
        path.unlink(missing_ok=True)
    create = os.O_CREAT | os.O_EXCL if first else 0  # a file that was removed is not made again
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
