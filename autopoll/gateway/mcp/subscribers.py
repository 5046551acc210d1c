"""The subscribers over HTTP: one for each client of the handshake era that wants notifications.

A client is known by its caller and by the name that it was given at its handshake. It is forgotten
when it ends its session, or has had no stream for a while; until then a stream that broke may be
opened again.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from autopoll.errors import AutopollError
from autopoll.gateway.mcp.log_relay import LogRelay
from autopoll.gateway.mcp.notification_stream import stream
from autopoll.gateway.mcp.stream_cursor import StreamCursor
from autopoll.gateway.mcp.subscriber import Subscriber
from autopoll.gateway.mcp.transcript_watch import TranscriptWatch
from autopoll.gateway.usecases import CallerAccess

IDLE_S = 300.0  # without a stream
IDLE = 64  # of one caller
ENDED = 1000  # ended sessions that are known, the newest

log = logging.getLogger(__name__)


class ClientKey(NamedTuple):
    """Whose client it is, and by which name it goes."""

    caller: str
    name: str


class Subscribers:
    """All of one gateway."""

    def __init__(self, watch: TranscriptWatch, relay: LogRelay) -> None:
        self._watch = watch
        self._relay = relay
        self._all: dict[ClientKey, Subscriber] = {}
        self._timers: dict[ClientKey, asyncio.TimerHandle] = {}
        self._ended: dict[ClientKey, None] = {}

    def get(self, key: ClientKey) -> Subscriber:
        """Return the subscriber of a client, in place of the oldest without a stream if need be."""
        if key not in self._all:
            idle = [each for each in self._timers if each.caller == key.caller]
            if len(idle) >= IDLE:
                self._forget(idle[0])
            self._all[key] = Subscriber(self._watch)
            self._forget_later(key)
        return self._all[key]

    async def stream(
        self, key: ClientKey, access: CallerAccess, last: str | None, *, primes: bool
    ) -> AsyncGenerator[bytes, None]:
        """Yield the events of a client's stream; `last` is the id of the last it has received.

        The newest stream of a client ends the one before.
        """
        subscriber = self.get(key)
        self._keep(key)
        try:
            if last and (cursor := StreamCursor.parse(last)):
                await self._resume(key, subscriber, cursor, access)
            async with aclosing(stream(subscriber, access, primes=primes)) as events:
                async for event in events:
                    yield event
        except AutopollError as error:  # the client opens its stream again, from the same event on
            log.warning("a stream cannot be resumed: %s", error)
            self._forget(key)
        finally:
            if self._all.get(key) is subscriber and not subscriber.is_read:
                self._forget_later(key)

    def end(self, key: ClientKey) -> None:
        """End a client's session."""
        self._forget(key)
        self._ended[key] = None
        if len(self._ended) > ENDED:
            del self._ended[next(iter(self._ended))]

    def has_ended(self, key: ClientKey) -> bool:
        """Return whether a client has ended its session."""
        return key in self._ended

    def drain(self) -> None:
        """End all streams; may be called twice."""
        for key in tuple(self._all):
            self._forget(key)

    async def _resume(
        self, key: ClientKey, subscriber: Subscriber, cursor: StreamCursor, access: CallerAccess
    ) -> None:
        if subscriber.level is None and cursor.level is not None:
            self._relay.set_level(subscriber, key.caller, cursor.level)
        await subscriber.resume(cursor, access)

    def _forget_later(self, key: ClientKey) -> None:
        self._keep(key)
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(IDLE_S, self._forget, key)

    def _keep(self, key: ClientKey) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()

    def _forget(self, key: ClientKey) -> None:
        self._keep(key)
        if subscriber := self._all.pop(key, None):
            self._relay.discard(subscriber)
            subscriber.close()
