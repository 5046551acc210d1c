"""Waiting over REST for an answer, as long as somebody wants it."""

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from autopoll.errors import AutopollError, BridgeBusy, NotFound
from autopoll.gateway.hub import Hub
from autopoll.gateway.problems import Refused
from autopoll.gateway.rest.question_routes import _answer, _unless_gone


class Connection:
    """A request, whose client leaves when `left` is set."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.waited_for: list[str] = []

    async def answer(self) -> str:
        """Take for ever."""
        self.waited_for.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            self.waited_for.append("ended")
        return "never"

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def wait(self, answer: Awaitable[str]) -> str:
        request = cast(Request, SimpleNamespace(receive=self.receive))
        return await _unless_gone(request, answer)


def play(story: Callable[[Connection], Awaitable[None]]) -> None:
    async def main() -> None:
        unseen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unseen.append(what))
        async with asyncio.timeout(20):
            await story(Connection())
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        gc.collect()  # which finds errors of tasks that nobody has seen
        assert unseen == []

    asyncio.run(main())


def test_a_wait_ends_when_its_client_has_gone() -> None:
    async def story(client: Connection) -> None:
        waiting = asyncio.create_task(client.wait(client.answer()))
        while not client.waited_for:
            await asyncio.sleep(0)
        client.left.set()
        with pytest.raises(ClientDisconnect):
            await waiting
        assert client.waited_for == ["begun", "ended"]

    play(story)


def test_the_answer_is_returned_and_the_client_watched_no_more() -> None:
    async def answer() -> str:
        await asyncio.sleep(0)
        return "yes"

    async def story(client: Connection) -> None:
        assert await client.wait(answer()) == "yes"

    play(story)


def test_an_answer_that_comes_as_the_client_leaves_ends_the_wait_by_either() -> None:
    async def story(client: Connection) -> None:
        async def answer() -> str:
            await client.left.wait()
            return "yes"

        waiting = asyncio.create_task(client.wait(answer()))
        for _ in range(3):
            await asyncio.sleep(0)
        client.left.set()
        with suppress(ClientDisconnect):
            assert await waiting == "yes"

    play(story)


def test_what_took_too_long_is_not_taken_for_a_client_that_has_gone() -> None:
    async def answer() -> str:
        raise TimeoutError("the store")

    async def story(client: Connection) -> None:
        with pytest.raises(TimeoutError, match="the store"):
            await client.wait(answer())

    play(story)


def test_what_receiving_from_the_client_raises_ends_the_wait() -> None:
    async def story(client: Connection) -> None:
        async def receive() -> dict[str, Any]:
            raise Refused("too-large", 413, "the body is too large")

        client.receive = receive  # type: ignore[method-assign]
        with pytest.raises(Refused, match="too large"):
            await client.wait(client.answer())
        assert client.waited_for == ["begun", "ended"]

    play(story)


class FailingHub:
    """A hub that cannot look at the store once the question is stored."""

    def __init__(self, error: AutopollError) -> None:
        self.error = error

    async def call(self, _use: Any) -> None:
        raise self.error

    async def outcome(self, _number: int, _seconds: float) -> None:
        raise self.error


def answer_of(error: AutopollError, seconds: float | None) -> Response:
    async def main() -> Response:
        request = cast(Request, SimpleNamespace(receive=Connection().receive))
        return await _answer(request, cast(Hub, FailingHub(error)), 7, seconds, {}, 202)

    return asyncio.run(main())


@pytest.mark.parametrize("seconds", [None, 5])
def test_a_store_that_fails_after_a_question_is_stored_is_answered_with_its_number(
    seconds: float | None,
) -> None:
    response = answer_of(BridgeBusy("the bridge is locked", "Try again."), seconds)
    assert (response.status_code, json.loads(response.body)["id"]) == (503, 7)
    assert response.headers["location"] == "/v1/questions/7"


def test_a_question_that_its_store_no_longer_has_is_not_called_kept() -> None:
    with pytest.raises(NotFound):
        answer_of(NotFound("there is no message 7"), None)
