"""What the poller makes of a worker that does not speak as ours do."""

import asyncio
import json

import msgspec
from place import Place

from autopoll.home import socket_path
from autopoll.message import Answer
from autopoll.process.supervisor import Supervisor
from autopoll.request import Reply
from fifo import link


def test_a_progress_that_cannot_be_read_is_a_sign_of_life_and_no_more(new_place) -> None:
    place: Place = new_place()
    place.run("up")
    poller = place.pid("poller")
    Supervisor(socket_path(place.home)).stop("worker", wait=True)
    asking = place.start_ask("is anybody there?")

    async def answer() -> tuple[str, str]:
        def on_event(event: link.ServerEvent) -> None:
            if isinstance(event, link.RequestReceived):
                server.progress(event.request_id, b"\xc1 not MessagePack")
                reply = Reply(answer=Answer(text="all the same"))
                server.reply(event.request_id, msgspec.msgpack.encode(reply))

        server = link.Server(place.home.workers / "worker", credits=1, on_event=on_event)
        await server.start()
        try:
            return await asyncio.to_thread(asking.communicate, timeout=30)
        finally:
            await server.close()

    out, err = asyncio.run(answer())
    assert json.loads(out)["answer"] == "all the same", err
    assert json.loads(out)["attempts"] == 1
    assert place.pid("poller") == poller
