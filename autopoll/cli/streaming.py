"""An answer on a terminal while it is being written."""

from typing import TYPE_CHECKING

from autopoll.cli.output import say

if TYPE_CHECKING:
    from autopoll.bridge.records import QueryState
    from autopoll.client.answer_pieces import AnswerPiece
    from autopoll.client.result import Result


class Live:
    """Prints one answer after the other as its pieces come, and prints the rest in the end.

    What an attempt wrote that came to nothing stays on the terminal, under a line that says so.
    """

    def __init__(self, *, several: bool) -> None:
        self._several = several
        self._heading = ""
        self._begun = False  # something of this question's answer stands on the terminal
        self._attempt = 0
        self._text = ""  # … and this is what does, of the attempt that runs
        self._held = ""  # a CR at its end, which the next piece may make an end of line

    def news(self, state: "QueryState") -> bool:
        """Note how the question stands; tell whether its answer is being shown."""
        self._heading = heading(state.message_id, state.shard)
        if self._text and state.state != "leased":
            self._break_off()
        return bool(self._text)

    def piece(self, piece: "AnswerPiece") -> None:
        """Print a piece."""
        if piece.anew:
            self._break_off()
            say(f"--- attempt {piece.attempt}, from the beginning")
        elif self._several and not self._begun:
            say(self._heading)
        # Noted first: Ctrl-C may come before the call that prints it returns.
        self._begun, self._attempt = True, piece.attempt
        text = self._held + piece.text
        self._held = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r")
        self._text += text
        say(text, nl=False)

    def outcome(self, result: "Result") -> str:
        """Return what is still to be printed of an answer, and turn to the next question."""
        text, begun, attempt = self._text, self._begun, self._attempt
        self._text, self._held, self._begun = "", "", False
        answer = result.answer or ""
        head = "" if begun or not self._several else heading(result.id, result.shard) + "\n"
        if result.status == "error":
            return head + _line_end(text)
        if text and attempt == result.attempts:
            if answer.startswith(text):
                return answer[len(text) :] + "\n"
            if answer == text.rstrip():
                return _line_end(text)
        if begun:
            head = f"{_line_end(text)}--- the answer\n"
        return head + answer + "\n"

    def leave(self) -> None:
        """End the line, so that an error that follows stands on a line of its own."""
        if end := _line_end(self._text):
            say(end, nl=False)
        self._text = self._held = ""

    def _break_off(self) -> None:
        if self._text:
            say(f"{_line_end(self._text)}--- broken off")
            self._text = self._held = ""


def heading(message_id: int, shard: str | None) -> str:
    """Return the line above an answer among several."""
    return f"--- question {message_id}, shard {shard}"


def _line_end(text: str) -> str:
    return "\n" if text and not text.endswith("\n") else ""
