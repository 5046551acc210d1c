"""Readers of transcripts are notified of new messages, whatever becomes of the connection."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace
from typing import Any, cast

import pytest
from bridge_calls import ask, talk
from postgres_server import DatabaseServer

from autopoll.bridge.postgres import PostgresBridge
from autopoll.bridge.records import BridgeLimits
from autopoll.errors import BridgeError
from autopoll.gateway.hub import Hub
from autopoll.gateway.mcp import transcript_watch
from autopoll.gateway.mcp.transcript_watch import TranscriptWatch


class DirectHub:
    """Calls the bridge in the loop."""

    def __init__(self, bridge: Any) -> None:
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


class WatchOfReplies:
    """A watch whose only notification comes with the reply to the look at whether it lives."""

    after_commit = True

    def __init__(self, breaks: bool) -> None:
        self.committed: list[Any] = []
        self.closed = 0
        self._breaks = breaks
        self._silent, self._other_end = socket.socketpair()

    def require_alive(self) -> None:
        self.committed = [SimpleNamespace(id=1, conversation="c")]

    def read(self) -> bool:
        if self._breaks:
            raise BridgeError("the connection was lost")
        return bool(self.committed)

    def fileno(self) -> int:
        if self.closed:
            raise BridgeError("the watch was closed")
        return self._silent.fileno()

    def close(self) -> None:
        self.closed += 1
        self._silent.close()
        self._other_end.close()


@pytest.mark.parametrize("breaks", [False, True])
def test_a_notification_that_comes_with_a_reply_is_passed_on_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, breaks: bool
) -> None:
    monkeypatch.setattr(transcript_watch, "NET_S", 600.0)
    watch = WatchOfReplies(breaks)
    messages = SimpleNamespace(
        newest=lambda: 0,
        find=lambda after, limit: [each for each in watch.committed if each.id > after],
    )
    hub = DirectHub(SimpleNamespace(messages=messages, watch=lambda: watch))

    async def follow() -> None:
        reader = Reader()
        async with TranscriptWatch(cast("Hub", hub)) as transcripts, asyncio.timeout(30):
            await transcripts.follow("c", reader)
            assert await reader.seen.get() == 1
            assert watch.closed == breaks

    asyncio.run(follow())
    assert hub.crash is None
    assert watch.closed == 1
    assert len(caplog.records) == breaks


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
