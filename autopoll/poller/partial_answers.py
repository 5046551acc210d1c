"""Answers that are still being written, as far as they have come, for askers to read along.

Kept only as long as the attempt lasts: then the answer counts, or the next attempt.
"""

from collections.abc import Iterable

import msgspec

from autopoll.bridge.poller_protocol import AnswerText
from autopoll.bridge.records import Delivery
from autopoll.redact.redact import redact, settled

LARGEST = 1024 * 1024  # characters kept of one answer
HELD = 16 * 1024  # characters that are held back, as they may become a secret


class PartialAnswer(msgspec.Struct):
    """One of them, as far as it has come."""

    attempt: int
    parts: list[str] = []  # what may be shown
    held: str = ""  # may be the beginning of a secret
    size: int = 0  # characters of them
    full: bool = False  # nothing more is kept


class PartialAnswers:
    """The texts of the attempts in flight."""

    def __init__(self, *, redacting: bool) -> None:
        self._redacting = redacting
        self._partials: dict[tuple[int, int], PartialAnswer] = {}  # by question and fence

    def so_far(self, message_id: int) -> AnswerText:
        """Return what was kept of a question's newest attempt, if anything."""
        fences = [fence for number, fence in self._partials if number == message_id]
        if not fences:
            return AnswerText(message_id, attempt=0, fence=0, text="", so_far=True)
        partial = self._partials[message_id, max(fences)]
        text = "".join(partial.parts)
        return AnswerText(message_id, partial.attempt, max(fences), text, so_far=True)

    def add(self, delivery: Delivery, piece: str) -> str:
        """Keep the next piece of an attempt's answer; return what there is more to read now."""
        message_id, attempt = delivery.message_id, delivery.attempt
        partial = self._partials.setdefault((message_id, delivery.fence), PartialAnswer(attempt))
        if partial.full:
            return ""
        text = partial.held + piece
        cut = settled(text) if self._redacting else len(text)
        partial.held = text[cut:]
        ready = redact(text[:cut]) if self._redacting else text
        if partial.size + len(ready) > LARGEST or len(partial.held) > HELD:
            partial.full, partial.held = True, ""
            return ""
        if ready:
            partial.size += len(ready)
            partial.parts.append(ready)
        return ready

    def hand_over(self) -> list[tuple[int, int, PartialAnswer]]:
        """Return all, with question and fence, for the program that goes on with them."""
        return [(*key, partial) for key, partial in self._partials.items()]

    def go_on(self, handed: Iterable[tuple[int, int, PartialAnswer]]) -> None:
        """Take up what was handed over."""
        self._partials = {(number, fence): partial for number, fence, partial in handed}

    def remove(self, delivery: Delivery) -> None:
        """Forget what was kept of an attempt that is over."""
        self._partials.pop((delivery.message_id, delivery.fence), None)
