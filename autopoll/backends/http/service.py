"""A client of a service, used by several questions at once and closed when it may be."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Protocol

from autopoll.backends.context.prompt import Turn
from autopoll.backends.contract import Unanswered
from autopoll.backends.http.stream import Event

CLOSE_S = 1.0


class Service(Protocol):
    """One client of one library, in our words."""

    errors: tuple[type[Exception], ...]  # what its calls may raise

    async def check(self) -> int | None:
        """Make a call that costs nothing; return the model's window in tokens, if it is known."""
        ...

    def stream(self, turn: Turn) -> AsyncGenerator[Event, None]:
        """Ask, and yield what comes; closing it lets go of the connection."""
        ...

    async def count(self, turn: Turn) -> int | None:
        """Return how many tokens the turn has, None when the service cannot count for free."""
        ...

    def failure(self, error: Exception) -> Unanswered:
        """Return what one of its `errors` means."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class SharedService:
    """A service, and how many questions are under way on it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.users = 0
        self.spoilt = False

    async def let_go(self) -> None:
        """End one use; the last one of a spoilt service closes it."""
        self.users -= 1
        if self.spoilt and not self.users:
            await self.close()

    async def close(self) -> None:
        """Close it, but do not wait long for the other end."""
        with suppress(TimeoutError, *self.service.errors):
            async with asyncio.timeout(CLOSE_S):
                await self.service.close()
