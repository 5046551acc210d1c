"""What the poller makes of a worker that does not speak as ours do."""

import asyncio
import json
from contextlib import closing

import msgspec
from place import ECHO, Place, until

from autopoll.home import socket_path
from autopoll.message import Answer
from autopoll.process.supervisor import Supervisor
from autopoll.request import Progress, Reply, Request
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


def test_a_worker_that_lets_go_of_nothing_loses_its_link_and_is_asked_anew(new_place) -> None:
    place: Place = new_place(f'{ECHO}request_timeout = "1s"\n')
    place.run("up")
    poller = place.pid("poller")
    Supervisor(socket_path(place.home)).stop("worker", wait=True)
    asking = [place.start_ask(question, "--timeout", "60") for question in ("mute", "patient")]
    seen: list[tuple[str, int]] = []
    left: list[str] = []

    async def answer() -> list[tuple[str, str]]:
        def on_event(event: link.ServerEvent) -> None:
            match event:
                case link.RequestReceived(request_id=request_id, payload=payload):
                    request = msgspec.msgpack.decode(payload, type=Request)
                    seen.append((request.question, request.attempt))
                    server.progress(request_id, msgspec.msgpack.encode(Progress()))
                    if left:
                        reply = Reply(answer=Answer(text=f"so: {request.question}"))
                        server.reply(request_id, msgspec.msgpack.encode(reply))
                case link.ClientLeft(reason=reason):
                    left.append(reason)

        server = link.Server(place.home.workers / "worker", credits=1, on_event=on_event)
        await server.start()
        try:
            waiting = [asyncio.to_thread(each.communicate, timeout=60) for each in asking]
            return await asyncio.gather(*waiting)
        finally:
            await server.close()

    results = [json.loads(out) for out, _ in asyncio.run(answer())]
    assert [each["answer"] for each in results] == ["so: mute", "so: patient"]
    assert left[0] == "a cancelled request was not let go of"
    attempts = {each["answer"]: each["attempts"] for each in results}
    assert sorted(attempts.values()) == [1, 2]  # only what was begun and given up has cost one
    assert place.pid("poller") == poller


def test_more_than_the_pipe_takes_is_given_out_as_it_drains(new_place) -> None:
    place: Place = new_place(f"{ECHO}[shards.main.options]\nconcurrency = 8\n")
    place.run("up")
    poller = place.pid("poller")
    with closing(place.bridge()) as bridge:
        made = bridge.create_conversation("asker", "memory")
        bridge.serve(made.conversation, "b", "main")
        own = '{"lane": "own"}'
        texts = [f"{number}" + "x" * 3_000_000 for number in range(8)]
        ids = bridge.send(made.conversation, "a", texts, [own] * 8)
        until(lambda: all(one.state == "done" for one in bridge.queries(ids)), 60)
        assert [one.attempts for one in bridge.queries(ids)] == [1] * 8
    assert place.pid("poller") == poller
