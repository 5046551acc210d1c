"""What poller and worker send each other inside the pipe's frames, as MessagePack.

Not JSON, because JSON's escapes make a message up to six times larger than the bridge let in.
"""

from typing import Annotated, Any, Literal

import msgspec

from autopoll.message import Answer
from autopoll.text import valid

# Why a service works for nobody just now, as its backend says, …
Refusal = Literal["quota", "overloaded", "credentials", "rate-limit"]
Cause = Literal[Refusal, "budget"]  # … and why a shard is paused: the budget is the poller's own

# Bounded, so that no sum of them is beyond what a database can add up.
Tokens = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
Dollars = Annotated[float, msgspec.Meta(ge=0, le=10**6)]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a try has cost: tokens, and US dollars where the service reports them.

    `cached_tokens` is input that was read from a cache; `input_tokens` is all the other input.
    """

    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cached_tokens: Tokens = 0
    cost_usd: Dollars | None = None


_encode = msgspec.msgpack.Encoder().encode


class _Facts(msgspec.Struct, frozen=True):
    usage: Usage | None = None


def read_usage(metadata: str | None) -> Usage | None:
    """Return what an answer has cost, as its metadata says; None when it does not."""
    try:
        return msgspec.json.decode(metadata or "{}", type=_Facts).usage
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A question on its way to an instance; `timeout_ms` counts from the moment it is begun."""

    delivery: int
    fence: int
    attempt: int
    timeout_ms: int
    conversation: str
    question: str
    context_file: str | None = None
    canary: bool = False


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life: the first one, with nothing in it, says that work has begun.

    `text` says in words how the work goes; `piece` is the next part of the answer's text.
    """

    text: str = ""
    piece: str = ""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The instance's answer and what it cost."""

    answer: Answer
    usage: Usage | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no answer.

    `kind` is `retriable`, `permanent`, `broken` (the instance is replaced, the question tried
    again), `timeout`, `draining` or `unavailable` (for `cause`: the shard is paused, the question
    kept); `retry_after_ms` is how long the backend asks us to wait; `usage` is what the try has
    cost all the same.
    """

    kind: str
    message: str
    retry_after_ms: int | None = None
    cause: Refusal | None = None
    usage: Usage | None = None


def write(message: Request | Progress | Reply | Failure) -> bytes:
    """Return what goes into a frame: the one border that text of a backend or an asker passes.

    Such text may be none, as half a surrogate pair, or a kind of str; then it is made valid. Raises
    TypeError, ValueError, OverflowError or RecursionError for what cannot be sent at all.
    """
    try:
        return _encode(message)
    except (TypeError, UnicodeEncodeError):
        return _encode(_valid(msgspec.to_builtins(message, enc_hook=_plain)))


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _valid(value: Any) -> Any:
    match value:
        case str():
            return valid(value)
        case list():
            return [_valid(item) for item in value]
        case dict():
            return {_valid(key): _valid(item) for key, item in value.items()}
    return value
