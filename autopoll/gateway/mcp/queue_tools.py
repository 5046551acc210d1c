"""Tools for whoever looks after a home: the queue, pauses, and taking questions back."""

from typing import Annotated

import msgspec

from autopoll.gateway import queue_usecases
from autopoll.gateway.mcp.call import Call, ToolReply
from autopoll.gateway.mcp.question_tools import ShardName

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class ListQueue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of list_queue."""

    shard: ShardName | None = None
    after: Number = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50


class CancelQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of cancel_question."""

    id: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1, description="The id of the question.")]


class PauseShard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of pause_shard."""

    shard: ShardName
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""
    seconds: Annotated[float, msgspec.Meta(ge=1, le=315_360_000)] | None = None


class ResumeShard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of resume_shard."""

    shard: ShardName


class CancelReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it; `in turn`: its error answer comes after those before it."""

    id: int
    outcome: str


async def list_queue(call: Call, given: ListQueue) -> ToolReply:
    """List the questions that have no answer yet, oldest first: whose, how old, and which worker is
    at it since when. For the operator.
    """
    return ToolReply(
        await call.use(lambda use: queue_usecases.queue(use, given.shard, given.after, given.limit))
    )


async def cancel_question(call: Call, given: CancelQuestion) -> ToolReply:
    """Take back a question that needs no answer any more. It gets an error answer that says so; one
    that is answered already stays as it is.
    """
    done = await call.use(lambda use: queue_usecases.cancel(use, given.id))
    return ToolReply(CancelReport(id=done.message_id, outcome=done.outcome))


async def pause_shard(call: Call, given: PauseShard) -> ToolReply:
    """Keep a shard from answering until it is resumed, or for some seconds. Its questions are kept.
    For the operator.
    """
    return ToolReply(
        await call.use(
            lambda use: queue_usecases.pause(use, given.shard, given.reason, given.seconds)
        )
    )


async def resume_shard(call: Call, given: ResumeShard) -> ToolReply:
    """End the pause of a shard, so that it answers again. For the operator."""
    return ToolReply(await call.use(lambda use: queue_usecases.resume(use, given.shard)))
