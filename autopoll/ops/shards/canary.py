"""Asks a shard a real question: an instance in this process, or through a home that runs."""

import time
from collections.abc import Callable

from autopoll.backends.contract import Backend, NullReport, Permanent
from autopoll.bridge.connect import connect
from autopoll.client import outcome_wait
from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.ops.shards.results import Canary, elapsed_ms
from autopoll.request import Request

QUESTION = "In one short sentence: what can you answer questions about?"
LIMIT_S = 120.0


async def ask_instance(backend: Backend, limit_s: float) -> Canary:
    """Return what a started backend answers; raise its failure."""
    began = time.monotonic()
    request = Request(
        delivery=0,
        fence=0,
        attempt=1,
        timeout_ms=round(limit_s * 1000),
        conversation="canary",
        question=QUESTION,
    )
    reply = await backend.answer(request, NullReport())
    if reply.answer.error:
        raise Permanent(reply.answer.text)
    return Canary(
        answer=reply.answer.text,
        sources=list(reply.answer.sources),
        ms=elapsed_ms(began),
        usage=reply.usage,
    )


def ask_home(
    home: Home,
    config: Config,
    shard: str,
    limit_s: float,
    on_asked: Callable[[int], None],
    on_news: Callable[[], None],
) -> Canary:
    """Return what a shard answers through bridge, poller, pipes and worker; raise why it does not.

    `on_asked` is called with the number of the question once it is stored; `on_news` while the
    answer is awaited, and it may raise to end that.
    """
    bridge = connect(home, config)
    try:
        client = Client(home, config, bridge)
        with PollerConnection(home) as connection:
            began = time.monotonic()
            asked = client.ask([QUESTION], shard, connection=connection, trial=True)
            on_asked(*asked.ids)
            if not asked.listening:
                raise outcome_wait.down(asked.ids)
            [result] = client.wait(
                asked.ids, connection, timeout=limit_s + 5, on_news=lambda *_: on_news()
            )
        bridge.retention.remove(asked.ids)  # nobody needs it any more, nor a dead letter of it
    finally:
        bridge.close()
    if result.status == "error":
        raise Permanent(
            f"the question was answered with an error: {result.answer}",
            f"See: autopoll logs {shard}",
        )
    return Canary(
        answer=result.answer or "",
        sources=list(result.sources),
        ms=elapsed_ms(began),
        usage=result.usage,
    )
