"""What is kept of the one client at the other end of stdin and stdout."""

import asyncio
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Any, Self

from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession

from autopoll.gateway.authentication import Caller
from autopoll.gateway.hub import Hub
from autopoll.gateway.mcp.log_relay import CALLER, LogRelay
from autopoll.gateway.mcp.subscriber import Subscriber
from autopoll.gateway.mcp.transcript_watch import TranscriptWatch
from autopoll.gateway.usecases import CallerAccess, as_owner


class StdioTransport:
    """Used as an async context manager; its client is the owner of the home."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.watch = TranscriptWatch(hub)
        self.relay = LogRelay()
        self._access = as_owner(hub)
        self._open = AsyncExitStack()
        self._subscriber = Subscriber(self.watch)
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        CALLER.set(Caller().scope)
        self._open.enter_context(self.relay)
        await self._open.enter_async_context(self.watch)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._subscriber.close()
        if self._sending:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        await self._open.__aexit__(kind, error, trace)

    def access(self, _context: ServerRequestContext[Any, Any]) -> CallerAccess:
        """Return the access of the owner."""
        return self._access

    def subscriber(self, context: ServerRequestContext[Any, Any]) -> Subscriber:
        """Return the client's subscriber, whose notifications are sent from now on."""
        if self._sending is None:
            self._sending = asyncio.create_task(self._send(context.session))
        return self._subscriber

    async def _send(self, session: ServerSession) -> None:
        async with aclosing(self._subscriber.notifications(self._access)) as notifications:
            async for each in notifications:
                if each:
                    await session.send_notification(each)
