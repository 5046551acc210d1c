"""Answers that are being written, as far as the poller has sent them and nobody has taken them."""

from collections.abc import Callable

import msgspec

from autopoll.bridge.poller_protocol import AnswerText


class AnswerPiece(msgspec.Struct, frozen=True, kw_only=True):
    """The next part of an answer; with `anew`, the first of an attempt after one that failed."""

    message_id: int
    attempt: int
    text: str
    anew: bool


OnPiece = Callable[[AnswerPiece], None]


class AnswerPieces:
    """The text of each question's newest attempt, and how much of it was taken.

    What comes before `begin`, or before all there was so far, lacks its beginning: it is left out.
    """

    def __init__(self) -> None:
        self._texts: dict[int, AnswerText] = {}  # of those that have begun
        self._taken: dict[int, tuple[int, int]] = {}  # fence, and characters

    def begin(self, message_id: int) -> None:
        """Take the parts of a question of which nothing was written yet."""
        self._texts.setdefault(message_id, AnswerText(message_id, attempt=0, fence=0, text=""))

    def add(self, part: AnswerText) -> None:
        """Add the next part, or all that there was so far."""
        known = self._texts.get(part.id)
        if known is None and not part.so_far:
            return
        if known and known.fence == part.fence and not part.so_far:
            text = known.text + part.text
            part = AnswerText(part.id, part.attempt, part.fence, text)
        self._texts[part.id] = part

    def take(self, message_id: int) -> AnswerPiece | None:
        """Return what was not taken yet of one question's answer; `anew` after another attempt."""
        known = self._texts.get(message_id)
        if known is None:
            return None
        fence, taken = self._taken.get(message_id, (known.fence, 0))
        anew = fence != known.fence
        text = known.text[0 if anew else taken :]
        if not text:
            return None
        self._taken[message_id] = (known.fence, len(known.text))
        return AnswerPiece(message_id=message_id, attempt=known.attempt, text=text, anew=anew)

    def drop(self, message_id: int) -> None:
        """Forget a question."""
        self._texts.pop(message_id, None)
        self._taken.pop(message_id, None)
