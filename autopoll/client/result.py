"""How a question stands, as data and in words; the same at every front door."""

from typing import Literal

import msgspec

from autopoll.bridge.records import QueryState
from autopoll.message import read_answer
from autopoll.request import Usage, read_usage


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question's outcome so far; `answer` holds the reason when `status` is error."""

    id: int
    status: Literal["answered", "error", "pending"]
    answer: str | None
    sources: list[str]
    shard: str | None
    attempts: int
    latency_ms: int | None
    usage: Usage | None = None  # left out where it is not known


def to_result(state: QueryState) -> Result:
    """Return the outcome that a query's state amounts to."""
    latency = (
        max(0, state.settled_at - state.enrolled_at)  # the clock may have been set back
        if state.settled_at is not None and state.enrolled_at is not None
        else None
    )
    if state.answer is None:
        return Result(
            id=state.message_id,
            status="pending",
            answer=None,
            sources=[],
            shard=state.shard,
            attempts=state.attempts,
            latency_ms=None,
        )
    answer = read_answer(state.answer.text, state.answer.metadata)
    return Result(
        id=state.message_id,
        status="error" if answer.error else "answered",
        answer=answer.text,
        sources=answer.sources,
        shard=state.shard,
        attempts=state.attempts,
        latency_ms=latency,
        usage=read_usage(state.answer.metadata),
    )


def just_stored(message_id: int) -> Result:
    """Return the outcome of a question that was stored just now, whatever has come of it since."""
    return Result(
        id=message_id,
        status="pending",
        answer=None,
        sources=[],
        shard=None,
        attempts=0,
        latency_ms=None,
    )


def words(state: QueryState, paused: str | None, obstacle: str = "") -> str:
    """Return one line for whoever waits: how a question stands.

    `paused` says why the shard answers nothing on purpose for now, `obstacle` what else is in its
    way.
    """
    name = f"shard {state.shard}" if state.shard else "the shard"
    again = f", attempt {state.attempts}" if state.attempts > 1 else ""
    if obstacle:
        return f"question {state.message_id} is kept: {obstacle}"
    match state.state:
        case "leased":
            return f"{name} is working on question {state.message_id}{again}"
        case _ if paused:
            return f"question {state.message_id} is kept: {name} is paused, {paused}"
        case "ready" if state.last_error:
            return f"question {state.message_id} will be tried again: {state.last_error}"
        case _:
            return f"question {state.message_id} waits for {name}"
