"""How many bytes of bodies are held at a time."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from autopoll.gateway import request_checks
from autopoll.gateway.request_checks import RequestChecks
from autopoll.home.byte_size import ByteSize
from autopoll.home.config import GatewaySection


class Requests:
    """Requests whose bodies are read and then held until `done` is set."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.audited: list[str] = []
        settings = GatewaySection(max_body=ByteSize(1000))
        self.checks = RequestChecks(self.serve, settings, self.audited.append)

    async def serve(self, _scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await self.done.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def request(self, size: int) -> int:
        """Send a body of this size and return the status of the answer."""
        scope = {"type": "http", "headers": [(b"host", b"localhost")]}
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"x" * size, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.checks(scope, receive, send)
        return int(sent[0]["status"])


def test_all_bodies_together_are_bounded_and_room_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_checks, "ROOM", 3000)

    async def story() -> None:
        requests = Requests()
        for _ in range(3):
            held = [asyncio.create_task(requests.request(1000)) for _ in range(3)]
            await asyncio.sleep(0)
            assert await requests.request(1) == 503
            assert requests.audited.pop() == "too-much-at-once"
            requests.done.set()
            assert await asyncio.gather(*held) == [200, 200, 200]
            assert await requests.request(1000) == 200
            requests.done.clear()

    asyncio.run(story())
