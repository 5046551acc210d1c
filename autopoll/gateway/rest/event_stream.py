"""A question's way to its answer as server-sent events.

`progress` is a state, `piece` the next part of the answer while it is written (`anew`: a new
attempt begins it again), `answer` the outcome, after which the stream ends. Every stream begins
with the whole state, so that a client that was cut off goes on by asking again, whatever
Last-Event-ID says.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from autopoll.client.answer_pieces import AnswerPiece
from autopoll.client.result import Result
from autopoll.errors import AutopollError
from autopoll.gateway import strict_json
from autopoll.gateway.hub import Hub
from autopoll.gateway.problems import RETRY_S, response
from autopoll.gateway.subscription import News

PING_S = 15.0  # proxies close what is silent for longer, and a client that is gone is noticed

_TEXT = {"type": "string"}
SCHEMA = {
    "type": "object",
    "properties": {"event": _TEXT, "data": _TEXT, "id": _TEXT, "retry": {"type": "integer"}},
}


class ProgressEvent(msgspec.Struct, frozen=True, kw_only=True):
    """How far a question has come; `last_error` says why it is tried again."""

    id: int
    state: str
    shard: str | None
    attempts: int
    last_error: str | None


async def stream(hub: Hub, number: int, seconds: float) -> AsyncGenerator[bytes, None]:
    """Yield the events of a question until it is answered, for so many seconds at most."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    yield format_sse_event(retry=RETRY_S * 1000)
    async with aclosing(hub.follow(number, pieces=True)) as following:
        coming: asyncio.Future[News] = asyncio.ensure_future(anext(following))
        try:
            while (left := end - loop.time()) > 0:
                await asyncio.wait((coming,), timeout=min(PING_S, left))
                if not coming.done():
                    yield KEEPALIVE_COMMENT
                    continue
                news = coming.result()
                yield _event(number, news)
                if isinstance(news, Result):
                    return
                coming = asyncio.ensure_future(anext(following))
        except AutopollError as error:
            problem = bytes(response(error, kept=number).body).decode()
            yield format_sse_event(event="problem", data_str=problem)
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


def _event(number: int, news: News) -> bytes:
    if isinstance(news, AnswerPiece):
        return format_sse_event(event="piece", data_str=strict_json.encode(news).decode())
    if isinstance(news, Result):
        return format_sse_event(
            event="answer", id=f"{number}-answer", data_str=strict_json.encode(news).decode()
        )
    progress = ProgressEvent(
        id=number,
        state=news.state,
        shard=news.shard,
        attempts=news.attempts,
        last_error=news.last_error,
    )
    return format_sse_event(
        event="progress",
        id=f"{number}-{news.state}-{news.attempts}",
        data_str=strict_json.encode(progress).decode(),
    )
