"""Tools for asking shards."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Annotated

import msgspec

from autopoll.bridge.records import QueryState
from autopoll.client.answer_pieces import AnswerPiece
from autopoll.client.availability import Blocked
from autopoll.client.outcome_wait import down
from autopoll.client.result import Result, words
from autopoll.errors import AutopollError, Down, NotFound
from autopoll.gateway.hub import ShuttingDown
from autopoll.gateway.mcp.call import Call, ToolReply
from autopoll.gateway.subscription import News
from autopoll.gateway.usecases import Question, UseCases
from autopoll.ops.status import ShardStatus, status

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
    shard: (
        Annotated[
            ShardName,
            msgspec.Meta(
                description="Whom to ask, see list_shards; else main, or whoever answers in the"
                " conversation that your token opens."
            ),
        ]
        | None
    ) = None
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
    key: (
        Annotated[
            str,
            msgspec.Meta(
                max_length=255,
                pattern=r"^[\x21-\x7e]+$",
                description="Asking the same again under the same key within a day asks nothing"
                " new, but waits for the first question's answer.",
            ),
        ]
        | None
    ) = None


class GetAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of get_answer."""

    id: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1, description="The id of the question.")]
    timeout: Wait = 0.0


class TraceQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of trace_question."""

    id: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1, description="The id of the question.")]


class ListShards(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of list_shards: none."""


class AskableShards(msgspec.Struct, frozen=True, kw_only=True):
    """The shards; `ready` is how many of a shard's instances could answer now."""

    running: bool
    shards: list[ShardStatus]


async def ask(call: Call, given: Ask) -> ToolReply:
    """Ask a shard a question and wait for the answer, which comes with its sources
    (path:first-last line). A shard sees nothing of your conversation: put all it needs into the
    question. The question is kept from the moment it is stored: when the wait ends before the
    answer is there (status pending), or is cancelled, fetch it with get_answer; do not ask again.
    """
    question = Question(question=given.question, shard=given.shard, context_file=given.context_file)
    number = (await call.ask(question, given.key)).id
    # Before anything that may fail, so that the caller knows the number whatever happens.
    await call.report(f"question {number} is stored; get_answer fetches its answer at any time")
    with _errors_name(number):
        if not await call.hub.is_served() and (await _result(call, number)).status == "pending":
            raise down([number])
        return await _await(call, number, given.timeout)


async def get_answer(call: Call, given: GetAnswer) -> ToolReply:
    """Fetch the answer to an earlier question by its id, waiting for it if need be. Looking
    consumes nothing and may be repeated.
    """
    result = await _result(call, given.id)
    if result.status != "pending" or not given.timeout:
        return _reply(result)
    with _errors_name(given.id):
        return await _await(call, given.id, given.timeout)


async def trace_question(call: Call, given: TraceQuestion) -> ToolReply:
    """Show how a question came to its answer, or how far it has come: its states with their
    times, its attempts, and how long each step took. Nothing is changed or consumed by it.
    """
    return ToolReply(await call.access.trace(given.id))


async def list_shards(call: Call, given: ListShards) -> ToolReply:
    """List the shards that can be asked: what answers for each, and whether it is ready. Ask one
    that is not ready all the same: questions are kept until it is.
    """
    names = await call.use(UseCases.shards)
    # In a thread of its own: supervisord is given a second to answer.
    now = await asyncio.to_thread(status, call.hub.home, call.hub.config)
    shards = [each for each in now.shards if each.name in names]
    return ToolReply(AskableShards(running=now.supervisord == "running", shards=shards))


async def _result(call: Call, number: int) -> Result:
    return await call.use(lambda use: use.result(number))


async def _await(call: Call, number: int, seconds: float) -> ToolReply:
    """Return what a question came to within the time, telling the caller how it goes."""
    longest = min(seconds, call.hub.config.gateway.max_wait)
    try:
        async with asyncio.timeout(longest), aclosing(_follow(call, number)) as news:
            async for each in news:
                match each:
                    case Result():
                        return _reply(each)
                    case AnswerPiece():
                        await call.report(each.text)
                    case _ if call.listens:
                        await call.report(await _progress(call, each))
    except (TimeoutError, ShuttingDown):
        pass
    return _reply(await _result(call, number))


@contextmanager
def _errors_name(number: int) -> Iterator[None]:
    """Have each error of waiting for a stored question name it and say how to fetch its answer."""
    fetch = f"fetch the answer with get_answer, id {number}."
    try:
        yield
    except NotFound:  # of a store that has taken the place of the one with the question
        raise
    except Blocked as error:
        raise error.obstacle.blocked(f"question {number}", fetch) from None
    except Down:
        raise down([number], f"Have it started, then {fetch}") from None
    except AutopollError as error:
        what = f"{error.what}; question {number} is kept"
        raise AutopollError(what, f"Do not ask again; {fetch}") from error


def _follow(call: Call, number: int) -> AsyncGenerator[News, None]:
    """Follow a question; what nobody listens to need not be read."""
    return call.hub.follow(number, pieces=call.listens)


async def _progress(call: Call, state: QueryState) -> str:
    shard = state.shard
    paused = await call.hub.call(lambda client: client.paused(shard)) if shard else None
    return words(state, paused)


def _reply(result: Result) -> ToolReply:
    match result.status:
        case "error":
            return ToolReply(
                result,
                f"question {result.id} failed: {result.answer}\n"
                "  Mend what the reason says, and ask again.",
                failed=True,
            )
        case "pending":
            return ToolReply(
                result, f"Not answered yet, and kept: fetch it with get_answer, id {result.id}."
            )
    return ToolReply(result)
