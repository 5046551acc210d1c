"""Every request ends with one REPLY or FAILURE, whatever ends it, and is let go of after that."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.process.heartbeat_writer import Heart
from autopoll.request import Failure, Reply, Request, write
from autopoll.worker.instance import Instance
from autopoll.worker.request_server import RequestServer
from fifo import events
from fifo.client_end import ClientEnd
from fifo.events import ClientEvent

ASKED = write(
    Request(delivery=1, fence=1, attempt=1, timeout_ms=60_000, conversation="c", question="?")
)


class Foreign(BaseException):
    """What no code of ours expects."""


class Served:
    """A request server in this loop, and the poller's end of its pipes."""

    def __init__(self, home: Home, heart: Heart) -> None:
        instance = Instance(home, load(home, {}), "main", "worker")
        self.broke: list[BaseException] = []
        self.ended = 0
        self.events: list[ClientEvent] = []
        self.stopping = asyncio.Event()
        self.requests = RequestServer(home, instance, heart, self.stopping, self._on_ended)
        self.client = ClientEnd(home.workers / "worker", on_event=self.events.append)
        self.backend = instance.backend
        instance.broke = self.broke.append  # type: ignore[method-assign]
        instance.warm.set()

    def _on_ended(self) -> None:
        self.ended += 1

    async def connect(self) -> None:
        await self.backend.start()
        await self.requests.publish()
        while not self.client.connected:
            self.client.poke()
            await asyncio.sleep(0.002)

    async def outcome(self) -> Reply | Failure:
        """Return the one answer to the one request."""
        async with asyncio.timeout(20):
            while self.requests.in_flight or not self._answers():
                await asyncio.sleep(0.002)
        [answer] = self._answers()
        assert (self.requests.in_flight, self.ended) == ({}, 1)
        kind = Reply if isinstance(answer, events.ReplyReceived) else Failure
        return msgspec.msgpack.decode(answer.payload, type=kind)

    def _answers(self) -> list[events.ReplyReceived | events.FailureReceived]:
        kinds = events.ReplyReceived | events.FailureReceived
        return [each for each in self.events if isinstance(each, kinds)]


def serve(folder: Path, scene: Callable[[Served], Awaitable[None]]) -> None:
    home = Home(folder)
    home.make_private()
    home.config.write_text('[shards.main]\nbackend = "echo"\n')

    async def run(heart: Heart) -> None:
        served = Served(home, heart)
        await served.connect()
        await scene(served)
        served.client.close()
        await served.requests.close()

    with Heart.open(home.beats, "worker", "worker") as heart:
        asyncio.run(run(heart))


def test_a_request_is_let_go_of_with_its_reply(tmp_path: Path) -> None:
    async def scene(served: Served) -> None:
        served.client.request(1, ASKED)
        outcome = await served.outcome()
        assert isinstance(outcome, Reply) and outcome.answer.text == "?"

    serve(tmp_path, scene)


@pytest.mark.parametrize(("stopping", "kind"), [(False, "timeout"), (True, "draining")])
def test_a_request_that_is_cancelled_before_it_is_begun_fails_and_reaches_no_backend(
    tmp_path: Path, stopping: bool, kind: str
) -> None:
    async def scene(served: Served) -> None:
        served.backend.answer = lambda *_: pytest.fail("it was begun")  # type: ignore[method-assign]
        if stopping:
            served.stopping.set()
        served.client.request(1, ASKED)
        served.client.cancel(1)  # both are read in one turn of the loop
        outcome = await served.outcome()
        assert isinstance(outcome, Failure) and outcome.kind == kind
        assert served.broke == []

    serve(tmp_path, scene)


def test_a_request_fails_whatever_is_raised_and_the_instance_with_it(tmp_path: Path) -> None:
    async def scene(served: Served) -> None:
        async def answer(*_: object) -> Reply:
            raise Foreign

        served.backend.answer = answer  # type: ignore[method-assign]
        served.client.request(1, ASKED)
        outcome = await served.outcome()
        assert isinstance(outcome, Failure) and outcome.kind == "broken"
        assert [type(error) for error in served.broke] == [Foreign]

    serve(tmp_path, scene)


def test_a_request_whose_poller_has_left_is_cancelled_and_let_go_of(tmp_path: Path) -> None:
    async def scene(served: Served) -> None:
        async def answer(*_: object) -> Reply:
            await asyncio.Event().wait()
            raise AssertionError

        served.backend.answer = answer  # type: ignore[method-assign]
        served.client.request(1, ASKED)
        async with asyncio.timeout(20):
            while not served.requests.in_flight:
                await asyncio.sleep(0.002)
            served.client.close()
            while served.requests.in_flight:
                await asyncio.sleep(0.002)
        assert served.ended == 1

    serve(tmp_path, scene)
