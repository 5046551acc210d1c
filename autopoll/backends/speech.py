"""What a model says to one question: taken in event by event, and judged at its end."""

from typing import Literal, NamedTuple

from autopoll.backends.contract import Permanent, Report, Retriable
from autopoll.backends.prompt import Turn
from autopoll.message import Answer
from autopoll.request import Reply, Usage

LONGEST = 4 * 1024 * 1024  # characters of an answer; a stream that goes on is endless

End = Literal["", "done", "cut", "full", "refused"]  # "": the stream has ended before its end


class Piece(NamedTuple):
    """The next piece of the answer's text; an empty one is a sign of life, such as a thought."""

    text: str


class Ended(NamedTuple):
    """How the answer ended, and in the words of a refusal, why."""

    how: End
    why: str = ""


Event = Piece | Ended | Usage  # a Usage takes the place of the one before


class Speech:
    """What the model has said to one question so far."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._pieces: list[str] = []
        self.size = 0  # characters
        self.begun = False
        self.end = Ended("")
        self.usage: Usage | None = None
        self.dropped = 0

    @property
    def so_far(self) -> str:
        """How far it has come, for the text of a failure."""
        return f"after {self.size:,} characters" if self.begun else "before the answer began"

    def take(self, event: Event) -> None:
        """Take an event in; raise Permanent when there is no end to it."""
        self.begun = True
        match event:
            case Piece(text=""):
                self._report("")
            case Piece(text=text):
                self._pieces.append(text)
                self._report.piece(text)
                self.size += len(text)
                if self.size > LONGEST:
                    raise Permanent(f"the answer has more than {LONGEST:,} characters")
            case Usage():
                self.usage = event
            case Ended():
                self.end = event

    def reply(self, turn: Turn, max_tokens: int | None) -> Reply:
        """Return the answer, or raise what the end of the stream means instead of one."""
        text = "".join(self._pieces).strip()
        how, why = self.end
        if how == "refused":
            because = f": {why}" if why else ""
            raise Permanent(f"the model refused to answer{because}", usage=self.usage)
        if not text and how == "full":
            raise Permanent("the prompt leaves no room in the model's window", usage=self.usage)
        if not text and how == "cut":
            raise Permanent(
                "the model used up its tokens before it came to an answer",
                "Raise `max_tokens`.",
                usage=self.usage,
            )
        if not text:
            raise Retriable("the model gave an empty answer", usage=self.usage)
        if how == "cut":
            text += f"\n\n[cut off: {max_tokens or 'no more'} tokens allowed]"
        elif how == "full":
            text += "\n\n[cut off at the end of the model's window]"
        sources, self.dropped = turn.cite(text)
        return Reply(answer=Answer(text=text, sources=sources), usage=self.usage)
