"""Answers every request with itself, over a pair of named pipes.

python named.py FOLDER CREDITS
"""

import asyncio
import sys
from pathlib import Path

from fifo import events
from fifo.server_end import ServerEnd


async def serve(folder: Path, credits: int) -> None:
    """Answer until our stdin ends."""

    def on_event(event: events.ServerEvent) -> None:
        if isinstance(event, events.RequestReceived):
            server.reply(event.request_id, event.payload)

    server = ServerEnd(folder, credits=credits, on_event=on_event)
    await server.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, ended.set)
    await ended.wait()
    await server.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
