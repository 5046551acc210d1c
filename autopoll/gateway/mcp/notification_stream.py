"""The notifications for a client of the handshake era, as server-sent events over HTTP."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from mcp_types import JSONRPCNotification

from autopoll.errors import AutopollError
from autopoll.gateway.mcp.stream_cursor import StreamCursor
from autopoll.gateway.mcp.subscriber import Notification, Subscriber
from autopoll.gateway.usecases import CallerAccess

PING_S = 15.0  # proxies close what is silent for longer, and a client that is gone is noticed
# Clients open a stream again twice, this far apart, and then never more; a restart has to fit in.
RETRY_S = 8
PING = b": ping\r\n\r\n"


async def stream(
    subscriber: Subscriber, access: CallerAccess, *, primes: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the events of a stream until it ends, or the token opens nothing any more.

    With `primes`, whenever the cursor has changed there is an event that has nothing but an id,
    which clients of before 2025-11-25 cannot read.
    """
    sent: StreamCursor | None = None
    async with aclosing(subscriber.notifications(access)) as notifications:
        coming: asyncio.Future[Notification | None] = asyncio.ensure_future(anext(notifications))
        try:
            while True:
                await asyncio.wait((coming,), timeout=PING_S)
                if not coming.done():
                    yield PING
                    continue
                notification, cursor = coming.result(), subscriber.cursor()
                if notification or (primes and cursor != sent):
                    yield _event(notification, cursor)
                    sent = cursor
                coming = asyncio.ensure_future(anext(notifications))
        except (StopAsyncIteration, AutopollError):
            return
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


def _event(notification: Notification | None, cursor: StreamCursor) -> bytes:
    data = ""
    if notification:
        fields = notification.model_dump(by_alias=True, mode="json", exclude_none=True)
        data = JSONRPCNotification(jsonrpc="2.0", **fields).model_dump_json(exclude_none=True)
    lines = f"event: message\r\nid: {cursor}\r\nretry: {RETRY_S * 1000}\r\ndata: {data}\r\n\r\n"
    return lines.encode()
