"""What tokens cost the bridge before they are proven."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from autopoll.client.client import Client
from autopoll.errors import AccessDenied
from autopoll.gateway.audit import Audit
from autopoll.gateway.auth_middleware import PROOFS_AT_ONCE, AuthMiddleware
from autopoll.gateway.authentication import Caller
from autopoll.gateway.hub import Hub


class Connection:
    proof: tuple[bytes, Caller] | None = None

    def queue(self) -> None:
        pass

    def prove(self) -> None:
        pass

    def disprove(self) -> None:
        pass


class SlowHub:
    """Whose bridge refuses every token, once it is let."""

    def __init__(self) -> None:
        self.looking = self.looked = 0
        self.let = asyncio.Event()

    async def call(self, _use: Callable[[Client], Any]) -> Any:
        self.looking += 1
        await self.let.wait()
        self.looking -= 1
        self.looked += 1
        raise AccessDenied("the token opens nothing here", "")


def request(token: str, connection: Connection) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": "/v1/questions/1",
        "query_string": b"",
        "server": ("127.0.0.1", 1),
        "headers": [(b"authorization", f"Bearer {token}".encode())],
        "state": {"connection": connection},
    }


def test_a_flood_of_wrong_tokens_takes_few_turns_of_the_bridge_at_a_time() -> None:
    statuses: list[int] = []

    async def nothing(*_: object) -> None:
        raise AssertionError("served without a token")

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def main() -> None:
        hub = SlowHub()
        middleware = AuthMiddleware(
            nothing, cast(Hub, hub), cast(Audit, SimpleNamespace(__call__=lambda _why: None))
        )
        flood = [
            asyncio.create_task(middleware(request(f"{number:064}", Connection()), receive, send))
            for number in range(PROOFS_AT_ONCE + 50)
        ]
        for _ in range(10):  # turns of the loop, until all of them wait
            await asyncio.sleep(0)
        assert hub.looking == PROOFS_AT_ONCE
        hub.let.set()
        await asyncio.gather(*flood)
        assert (hub.looked, hub.looking) == (len(flood), 0)

    asyncio.run(main())
    assert statuses == [401] * (PROOFS_AT_ONCE + 50)
