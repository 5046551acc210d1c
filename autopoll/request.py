"""What poller and worker say to each other inside the pipe's frames, as MessagePack.

Not JSON, because JSON's escapes make a message up to six times larger than the bridge let in.
"""

from typing import Any, Literal

import msgspec

from autopoll.message import Answer

Cause = Literal["quota", "overloaded", "credentials"]  # why a service works for nobody just now


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
    """A sign of life: the first one, without text, says that work has begun."""

    text: str = ""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The instance's answer and what it cost."""

    answer: Answer
    usage: dict[str, Any] = {}


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no answer.

    `kind` is `retriable`, `permanent`, `broken` (the instance is replaced, the question tried
    again), `timeout`, `draining` or `unavailable` (for `cause`: the shard is paused, the question
    kept); `retry_after_ms` is how long the backend asks us to wait.
    """

    kind: str
    message: str
    retry_after_ms: int | None = None
    cause: Cause | None = None
