"""Tools for asking shards."""

import asyncio
from contextlib import aclosing
from typing import Annotated

import msgspec

from autopoll.bridge.contract import QueryState
from autopoll.errors import Down, NotFound
from autopoll.gateway.mcp.caller import Call
from autopoll.gateway.mcp.reply import Reply
from autopoll.gateway.waiting import Draining
from autopoll.progress import words
from autopoll.service import Result
from autopoll.status import ShardStatus, status

# Below the 60 s after which many clients give up a call, so that the caller rather reads that the
# answer is pending, and how to fetch it.
WAIT_S = 50.0
Wait = Annotated[
    float, msgspec.Meta(ge=0, le=3600, description="Seconds to wait for the answer at most.")
]
ShardName = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ask."""

    question: Annotated[
        str, msgspec.Meta(min_length=1, max_length=1_000_000, description="All the shard needs.")
    ]
    shard: Annotated[ShardName, msgspec.Meta(description="Whom to ask; see list_shards.")] = "main"
    context_file: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1, max_length=4096, description="A file of the shard to look into."
            ),
        ]
        | None
    ) = None
    timeout: Wait = WAIT_S


class GetAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of get_answer."""

    id: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1, description="The id of the question.")]
    timeout: Wait = 0.0


class ListShards(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of list_shards: none."""


class Shards(msgspec.Struct, frozen=True, kw_only=True):
    """The shards; `ready` is how many of a shard's instances could answer now."""

    running: bool
    shards: list[ShardStatus]


async def ask(call: Call, given: Ask) -> Reply:
    """Ask a shard a question and wait for the answer, which comes with its sources
    (path:first-last line). A shard sees nothing of your conversation: put all it needs into the
    question. The question is kept from the moment it is stored: when the wait ends before the
    answer is there (status pending), or is cancelled, fetch it with get_answer; do not ask again.
    """
    asked = await call.hub.ask(given.question, given.shard, context_file=given.context_file)
    (number,) = asked.ids
    await call.tell(f"question {number} is stored; get_answer fetches its answer at any time")
    if not asked.heard:
        raise _down(number)
    return await _await(call, number, given.timeout)


async def get_answer(call: Call, given: GetAnswer) -> Reply:
    """Fetch the answer to an earlier question by its id, waiting for it if need be. Looking
    consumes nothing and may be repeated.
    """
    state = await call.hub.call(lambda service: service.bridge.query(given.id))
    if not call.sees(state.conversation):
        await call.hub.call(
            lambda service: service.bridge.audit(
                call.caller.conversation,
                call.caller.session,
                "access_denied",
                '{"why": "not its own"}',
            )
        )
        raise NotFound(f"there is no message {given.id}", "List them with recent_messages.")
    return await _await(call, given.id, given.timeout)


async def list_shards(call: Call, given: ListShards) -> Reply:
    """List the shards that can be asked: what answers for each, and whether it is ready. Ask one
    that is not ready all the same: questions are kept until it is.
    """
    # In a thread of its own: supervisord is given a second to answer.
    now = await asyncio.to_thread(status, call.hub.home, call.hub.config)
    return Reply(Shards(running=now.supervisord == "running", shards=now.shards))


async def _await(call: Call, number: int, seconds: float) -> Reply:
    """Return what a question came to within the time, telling the caller how it goes."""
    try:
        async with asyncio.timeout(seconds), aclosing(call.hub.follow(number)) as news:
            async for each in news:
                if isinstance(each, Result):
                    return _reply(each)
                await call.tell(await _progress(call, each))
    except Down:
        raise _down(number) from None
    except (TimeoutError, Draining):
        pass
    return _reply(await call.hub.call(lambda service: service.result(number)))


async def _progress(call: Call, state: QueryState) -> str:
    shard = state.shard
    paused = await call.hub.call(lambda service: service.paused(shard)) if shard else None
    return words(state, paused)


def _reply(result: Result) -> Reply:
    match result.status:
        case "error":
            return Reply(
                result,
                f"question {result.id} failed: {result.answer}\n"
                "  Mend what the reason says, and ask again.",
                failed=True,
            )
        case "pending":
            return Reply(
                result, f"Not answered yet, and kept: fetch it with get_answer, id {result.id}."
            )
    return Reply(result)


def _down(number: int) -> Down:
    return Down(
        f"autopoll is down: question {number} is kept and will be answered after `autopoll up`",
        f"Have it started, then fetch the answer with get_answer, id {number}.",
    )
