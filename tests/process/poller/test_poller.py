"""What the poller makes of a worker that does not speak as ours do."""

import asyncio
import json
from contextlib import closing

import msgspec
import pytest
from bridge_calls import OWN, ask
from place import ECHO, Place, until

from autopoll.bridge.protocols import Bridge
from autopoll.home.home import socket_path
from autopoll.message import Answer
from autopoll.process.supervisor_rpc import Supervisor
from autopoll.request import Progress, Reply, Request
from fifo import events
from fifo.server_end import ServerEnd


def test_a_progress_that_cannot_be_read_is_a_sign_of_life_and_no_more(new_place) -> None:
    place: Place = new_place()
    place.run("up")
    poller = place.pid("poller")
    Supervisor(socket_path(place.home)).stop("worker", wait=True)
    asking = place.start_ask("is anybody there?")

    async def answer() -> tuple[str, str]:
        def on_event(event: events.ServerEvent) -> None:
            if isinstance(event, events.RequestReceived):
                server.progress(event.request_id, b"\xc1 not MessagePack")
                reply = Reply(answer=Answer(text="all the same"))
                server.reply(event.request_id, msgspec.msgpack.encode(reply))

        server = ServerEnd(place.home.workers / "worker", credits=1, on_event=on_event)
        await server.start()
        try:
            return await asyncio.to_thread(asking.communicate, timeout=30)
        finally:
            await server.close()

    out, err = asyncio.run(answer())
    assert json.loads(out)["answer"] == "all the same", err
    assert json.loads(out)["attempts"] == 1
    assert place.pid("poller") == poller


@pytest.mark.long
def test_a_worker_that_cancels_nothing_loses_its_link_and_is_asked_again(new_place) -> None:
    place: Place = new_place(f'{ECHO}request_timeout = "1s"\n')
    place.run("up")
    poller = place.pid("poller")
    Supervisor(socket_path(place.home)).stop("worker", wait=True)
    left: list[str] = []

    def on_event(event: events.ServerEvent) -> None:
        match event:
            case events.RequestReceived(request_id=request_id, payload=payload):
                question = msgspec.msgpack.decode(payload, type=Request).question
                if question != "waiting":
                    server.progress(request_id, msgspec.msgpack.encode(Progress()))
                if left:  # until then it cancels nothing, and says nothing
                    reply = Reply(answer=Answer(text=f"so: {question}"))
                    server.reply(request_id, msgspec.msgpack.encode(reply))
            case events.ClientLeft(reason=reason):
                left.append(reason)

    server = ServerEnd(place.home.workers / "worker", credits=2, on_event=on_event)

    async def answer(bridge: Bridge, ids: list[int]) -> None:
        await server.start()
        try:
            async with asyncio.timeout(60):
                while not all(one.answer for one in bridge.messages.query_states(ids)):
                    await asyncio.sleep(0.05)
        finally:
            await server.close()

    with closing(place.bridge()) as bridge:
        made = bridge.conversations.create("asker", "memory")
        bridge.conversations.serve(made.conversation, "b", "main")
        texts = ["begun", "waiting", "next"]  # for the third there is no room
        ids = ask(bridge, made.conversation, *texts, metadata=OWN)
        asyncio.run(answer(bridge, ids))
        found = bridge.messages.query_states(ids)
    assert [one.answer and one.answer.text for one in found] == [f"so: {text}" for text in texts]
    assert [one.attempts for one in found] == [2, 1, 1]  # what was not at fault has lost none
    assert found[0].last_error == "timeout: the worker neither answered nor let go of it"
    assert left[0] == "it kept a cancelled request"
    assert place.pid("poller") == poller


@pytest.mark.long
def test_more_than_the_pipe_takes_is_given_out_as_it_drains(new_place) -> None:
    place: Place = new_place(f"{ECHO}[shards.main.options]\nconcurrency = 8\n")
    place.run("up")
    poller = place.pid("poller")
    with closing(place.bridge()) as bridge:
        made = bridge.conversations.create("asker", "memory")
        bridge.conversations.serve(made.conversation, "b", "main")
        texts = [f"{number}" + "x" * 3_000_000 for number in range(8)]
        ids = ask(bridge, made.conversation, *texts, metadata=OWN)
        until(lambda: all(one.state == "done" for one in bridge.messages.query_states(ids)), 60)
        assert [one.attempts for one in bridge.messages.query_states(ids)] == [1] * 8
    assert place.pid("poller") == poller
