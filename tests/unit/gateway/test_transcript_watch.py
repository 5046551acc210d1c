"""Readers of transcripts are notified of new messages, whatever becomes of the connection."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace
from typing import Any, cast

from bridge_calls import ask, talk
from postgres_server import DatabaseServer

from autopoll.bridge.postgres import PostgresBridge
from autopoll.bridge.records import BridgeLimits
from autopoll.gateway.hub import Hub
from autopoll.gateway.mcp.transcript_watch import TranscriptWatch


class DirectHub:
    """Calls the bridge in the loop."""

    def __init__(self, bridge: PostgresBridge) -> None:
        self._client: Any = SimpleNamespace(bridge=bridge)
        self.crash: BaseException | None = None

    async def call(self, use: Callable[[Any], Any]) -> Any:
        return use(self._client)


class Reader:
    """Keeps the numbers of the messages that it is notified of."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[int] = asyncio.Queue()

    def changed(self, conversation: str, message_id: int) -> None:
        self.seen.put_nowait(message_id)

    def close(self) -> None:
        """Do nothing."""


def test_a_listening_connection_that_is_ended_costs_no_reader_a_message(
    postgres: DatabaseServer,
) -> None:
    name = postgres.create_database()
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname=%s"

    async def follow(bridge: PostgresBridge) -> None:
        hub, reader, conversation = DirectHub(bridge), Reader(), talk(bridge)
        async with TranscriptWatch(cast("Hub", hub)) as transcripts, asyncio.timeout(30):
            await transcripts.follow(conversation, reader)
            for text in ("before", "between", "after"):
                [number] = ask(bridge, conversation, text)
                assert await reader.seen.get() == number
                postgres.run_sql(f"{ended} AND query LIKE 'LISTEN%%'", name)
        assert hub.crash is None

    with closing(PostgresBridge(postgres.url(name), BridgeLimits(), create=True)) as bridge:
        asyncio.run(follow(bridge))
    postgres.drop_database(name)
