"""What askers and the poller say to each other over the poller's socket.

A faster way in, and no second queue: whatever is said here stands in the store, or does not count.

Each record is MessagePack inside a frame of `fifo.frame`, whose request id is the number that an
asker gives to a question: the answer to it bears the same. The first record either way is a
greeting with the version of all that follows; where the versions differ the poller closes, and
the asker uses the store.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from autopoll.bridge.records import Arrival, QueryState
from autopoll.errors import (
    AccessDenied,
    AutopollError,
    BridgeBusy,
    BridgeError,
    BridgeFull,
    BridgeUnavailable,
    Down,
    KeyReused,
    NotFound,
    RateLimited,
    RowRefused,
    UsageError,
)
from fifo.exceptions import RemoteFault
from fifo.frame import LINK, MAX_PAYLOAD, Decoder, Type, header

VERSION = 2
LARGEST_ANSWER = 1 << 20  # characters; a longer one is read out of the store
_ERRORS: dict[str, type[AutopollError]] = {
    kind.__name__: kind
    for kind in (
        AccessDenied, BridgeBusy, BridgeError, BridgeFull, BridgeUnavailable, Down, KeyReused,
        NotFound, RowRefused, UsageError,
    )
}  # fmt: skip


class AskerGreeting(msgspec.Struct, frozen=True, tag=True):
    """Which version the asker speaks."""

    version: int


class PollerGreeting(msgspec.Struct, frozen=True, tag=True):
    """Which version the poller speaks, and what it takes.

    `newest` is the number of a message that is older than all that will be stored; `largest` is how
    many bytes of a record are taken.
    """

    version: int
    newest: int
    largest: int


class AskRequest(msgspec.Struct, frozen=True, tag=True):
    """Store a question; with `follow`, say how it goes on; with `pieces`, send its answer in parts.

    The `token` proves its session, where the asker has not proven it in the store.
    """

    arrival: Arrival
    token: str | None = None
    follow: bool = True
    pieces: bool = False


class FollowRequest(msgspec.Struct, frozen=True, tag=True):
    """Say how questions stand, now and as that changes."""

    ids: list[int]
    pieces: bool


class QuestionStored(msgspec.Struct, frozen=True, tag=True):
    """The question is committed; not `fresh` when it was before."""

    id: int
    fresh: bool


class QuestionRefused(msgspec.Struct, frozen=True, tag=True):
    """The question is not stored, and will not be: an error of ours by the name of its class."""

    kind: str
    what: str
    mend: str
    wait_ms: int = 0


class QuestionNews(msgspec.Struct, frozen=True, tag=True):
    """How a question stands; where it is settled without an answer, that is read in the store.

    It is too long to be sent, or too much waits already for the asker to read.
    """

    query: QueryState


class QuestionUnknown(msgspec.Struct, frozen=True, tag=True):
    """There is no message of this number to follow."""

    id: int


class AnswerText(msgspec.Struct, frozen=True, tag=True):
    """The next part of an answer that is being written, or all there was of it `so_far`.

    What bears another fence is the text of another attempt. A follower is sent the latter first.
    """

    id: int
    attempt: int
    fence: int
    text: str
    so_far: bool = False


class PollerDraining(msgspec.Struct, frozen=True, tag=True):
    """The poller stores no more questions, and will end."""


FromAsker = AskerGreeting | AskRequest | FollowRequest
FromPoller = (
    PollerGreeting
    | QuestionStored
    | QuestionRefused
    | QuestionNews
    | QuestionUnknown
    | AnswerText
    | PollerDraining
)

_encode = msgspec.msgpack.Encoder().encode
_Record = TypeVar("_Record")


def pack(record: FromAsker | FromPoller, number: int = LINK) -> tuple[bytes, bytes]:
    """Return the head and the payload of a frame."""
    payload = _encode(record)
    return header(Type.REQUEST, VERSION, number, payload), payload


class RecordReader(Generic[_Record]):
    """Takes bytes in pieces of any size and gives back records with their numbers."""

    def __init__(self, kinds: object, max_payload: int = MAX_PAYLOAD) -> None:
        self._frames = Decoder(max_payload)
        self._decode = msgspec.msgpack.Decoder(kinds).decode

    def records(self, data: bytes) -> Iterator[tuple[int, _Record]]:
        """Yield what is complete; raise RemoteFault for what is no frame or no record."""
        self._frames.feed(data)
        for frame in self._frames.frames():
            try:
                record: _Record = self._decode(frame.payload)
            except msgspec.MsgspecError as error:
                raise RemoteFault(f"bad record: {error}") from error
            yield frame.request_id, record


def refusal(error: AutopollError) -> QuestionRefused:
    """Return the record that says why a question is not stored."""
    wait_ms = error.wait_ms if isinstance(error, RateLimited) else 0
    return QuestionRefused(type(error).__name__, error.what, error.mend, wait_ms)


def error_of(refused: QuestionRefused) -> AutopollError:
    """Return the error that a refusal stands for."""
    if refused.kind == RateLimited.__name__:
        return RateLimited(refused.what, refused.mend, wait_ms=refused.wait_ms)
    return _ERRORS.get(refused.kind, AutopollError)(refused.what, refused.mend)


def shortened(query: QueryState, most: int) -> QueryState:
    """Return a state without its answer where that has more than so many characters."""
    if query.answer is None or len(query.answer.text) <= most:
        return query
    return msgspec.structs.replace(query, answer=None)
