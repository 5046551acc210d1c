"""Answers every request with itself, over TCP with the frames and the session of our library.

python framed.py PORT
"""

import asyncio
import os
import socket
import sys
from itertools import count

from fifo import events
from fifo.frame import MAX_PAYLOAD
from fifo.pipe import Ends
from fifo.server_session import ServerSession
from fifo.wire import Wire

CREDITS = 64


async def serve(port: int) -> None:
    """Answer until the client is gone."""
    joined = socket.create_connection(("127.0.0.1", port))
    joined.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    joined.setblocking(False)
    descriptor = joined.detach()
    gone = asyncio.Event()

    def on_data(data: bytes) -> None:
        for event in session.receive(data):
            if isinstance(event, events.RequestReceived):
                session.reply(event.request_id, event.payload)

    def on_lost(reason: str) -> None:
        gone.set()

    wire = Wire(Ends(descriptor, os.dup(descriptor)), on_data=on_data, on_lost=on_lost)
    session = ServerSession(
        1,
        wire.send,
        max_payload=MAX_PAYLOAD,
        pid=os.getpid(),
        credits=CREDITS,
        numbers=count(1),
    )
    await gone.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
