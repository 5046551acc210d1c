"""The answer of a model to one question: collected event by event, and judged at its end."""

from typing import Literal, NamedTuple

from autopoll.backends.context.prompt import Turn
from autopoll.backends.contract import Permanent, Report, Retriable
from autopoll.backends.http.reasoning import Thoughts, without_thoughts
from autopoll.message import Answer
from autopoll.request import Reply, Usage

LONGEST = 4 * 1024 * 1024  # characters of an answer; a stream that goes on is endless
SHOWN = 300  # characters of a reason

# "": the stream has ended before its end; "odd": for a reason that we do not know.
End = Literal["", "done", "cut", "full", "refused", "broken", "tools", "odd"]


class Piece(NamedTuple):
    """The next piece of the answer's text; an empty one is a sign of life, such as a comment."""

    text: str


class Thought(NamedTuple):
    """A sign of life that is a thought, and no part of the answer."""


class Ended(NamedTuple):
    """How the answer ended, and why: the words of a refusal, or what the service calls it."""

    how: End
    why: str = ""


Event = Piece | Thought | Ended | Usage  # a Usage takes the place of the one before


class StreamedAnswer:
    """The answer to one question, as far as it has come."""

    def __init__(self, report: Report, *, hold: bool = False) -> None:
        """Begin; with `hold`, pieces are reported once it is clear that they are no thoughts."""
        self._report = report
        self._pieces: list[str] = []
        self._thoughts = Thoughts(hold=hold)
        self._half = ""  # of a character that takes two codes, which services cut through
        self.size = 0  # characters
        self.end = Ended("")
        self.usage: Usage | None = None
        self.dropped = 0
        self.bare = False  # thoughts came without their first tag

    @property
    def so_far(self) -> str:
        """How far it has come, for the text of a failure."""
        return f"after {self.size:,} characters" if self.size else "before the answer began"

    def take(self, event: Event) -> None:
        """Take an event in; raise Permanent when there is no end to it."""
        match event:
            case Piece(text=""):
                self._report("")
            case Piece(text=text):
                self.size += len(text)
                if self.size > LONGEST:
                    raise Permanent(f"the answer has more than {LONGEST:,} characters")
                self._add(self._thoughts.feed(self._whole(text)))
            case Thought():
                self._thoughts.release()
                self._report("")
            case Usage():
                self.usage = event
            case Ended():
                self.end = event

    def reply(self, turn: Turn, max_tokens: int | None) -> Reply:
        """Return the answer, or raise what the end of the stream means instead of one."""
        how, why = self.end.how, _shown(self.end.why)
        because = f": {why}" if why else ""
        if how == "refused":
            raise Permanent(f"the model refused to answer{because}", usage=self.usage)
        if how == "broken":
            raise Retriable(f"the service broke the answer off{because}", usage=self.usage)
        if how == "tools":
            raise Retriable(
                "the model called a tool in place of an answer, and it has none", usage=self.usage
            )
        text = self._text()
        if not text:
            raise self._nothing(how, because)
        if how == "cut":
            text += f"\n\n[cut off: {max_tokens or 'no more'} tokens allowed]"
        elif how == "full":
            text += "\n\n[cut off at the end of the model's window]"
        elif how == "odd":
            text += f"\n\n[perhaps cut off; the service's reason{because}]"
        sources, self.dropped = turn.cite(text)
        return Reply(answer=Answer(text=text, sources=sources), usage=self.usage)

    def _nothing(self, how: End, because: str) -> Permanent | Retriable:
        if how == "full":
            return Permanent("the prompt leaves no room in the model's window", usage=self.usage)
        if how == "cut":
            return Permanent(
                "the model used up its tokens before it came to an answer",
                "Raise `max_tokens`.",
                usage=self.usage,
            )
        only = ", and nothing but thoughts" if self._thoughts.tagged or self.bare else ""
        return Retriable(f"the model gave an empty answer{only}{because}", usage=self.usage)

    def _text(self) -> str:
        """Return the whole answer: without thoughts, and text that can be written down."""
        self._add(self._thoughts.feed(_valid(self._half)) + self._thoughts.end())
        self._half = ""
        text = "".join(self._pieces)
        self.bare = self._thoughts.bare
        if not self._thoughts.tagged and not self.bare:
            text, self.bare = without_thoughts(text)
        return text.strip()

    def _add(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            self._report.piece(text)
        else:
            self._report("")

    def _whole(self, text: str) -> str:
        """Return the text with the half before, and without the half that is behind it."""
        text, self._half = self._half + text, ""
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return _valid(text)


def _valid(text: str) -> str:
    """Return text in which two halves are one character, and half a one is marked."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _shown(why: str) -> str:
    return " ".join(_valid(why).split())[:SHOWN]
