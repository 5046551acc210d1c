"""Connections that show tokens, in a crowd of others that show wrong ones."""

import asyncio
import re
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import uvicorn
from starlette.responses import PlainTextResponse
from uvicorn.server import ServerState

from autopoll.client.client import Client
from autopoll.gateway.audit import Audit
from autopoll.gateway.auth_middleware import AuthMiddleware
from autopoll.gateway.http_connection import ConnectionLimits, HttpConnection
from autopoll.gateway.hub import Hub
from autopoll.home import operator_token
from autopoll.home.home import Home

REQUEST = "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n"


class SlowHub:
    """Whose bridge knows no token but the operator's, once it is let."""

    def __init__(self, home: Home) -> None:
        self.let = asyncio.Event()
        known = SimpleNamespace(find_by_token=lambda _: None, audit_denial=lambda *_: None)
        bridge = SimpleNamespace(conversations=known)
        self._client = cast(Client, SimpleNamespace(home=home, bridge=bridge))

    async def call(self, use: Callable[[Client], Any]) -> Any:
        await self.let.wait()
        return use(self._client)


class Gateway:
    """Connections to a gateway that lets in sixteen, of whom twelve may show a token."""

    def __init__(self, hub: SlowHub) -> None:
        served = PlainTextResponse("served")
        audit = cast(Audit, lambda _why: None)
        self._config = uvicorn.Config(
            AuthMiddleware(served, cast(Hub, hub), audit), lifespan="off", log_config=None
        )
        self._config.load()
        self._limits = ConnectionLimits(16, 60.0, audit)

    async def connect(self) -> "Asker":
        ours, theirs = socket.socketpair()
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: HttpConnection(self._config, ServerState(), {}, limits=self._limits), theirs
        )
        return Asker(*await asyncio.open_connection(sock=ours))

    async def ask(self, token: str) -> "Asker":
        """Send a request over a new connection, and see it begun."""
        asker = await self.connect()
        asker.send(token)
        for _ in range(10):  # turns of the loop, until it waits for its token to be looked up
            await asyncio.sleep(0)
        return asker


class Asker:
    """The client's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, token: str) -> None:
        self._writer.write(REQUEST.format(token).encode())

    async def status(self) -> int:
        """Return the status of the next answer, read whole."""
        async with asyncio.timeout(30):
            head = await self._reader.readuntil(b"\r\n\r\n")
            [length] = re.findall(rb"content-length: (\d+)", head.lower())
            await self._reader.readexactly(int(length))
        return int(head.split()[1])

    def close(self) -> None:
        self._writer.close()


def test_who_shows_a_good_token_is_served_after_any_number_of_wrong_ones(tmp_path: Path) -> None:
    token = operator_token.create(Home(tmp_path))

    async def main() -> tuple[list[int], int]:
        hub = SlowHub(Home(tmp_path))
        gateway = Gateway(hub)
        crowd = [await gateway.ask(f"{number:064}") for number in range(20)]
        honest = await gateway.ask(token)
        made_way = [await each.status() for each in crowd[:9]]
        hub.let.set()
        told = made_way + [await each.status() for each in crowd[9:]], await honest.status()
        for each in (*crowd, honest):
            each.close()
        return told

    crowd, honest = asyncio.run(main())
    assert crowd == [503] * 9 + [401] * 11
    assert honest == 200


def test_who_has_shown_a_good_token_is_kept_when_others_crowd_in(tmp_path: Path) -> None:
    token = operator_token.create(Home(tmp_path))

    async def main() -> tuple[int, int]:
        hub = SlowHub(Home(tmp_path))
        hub.let.set()
        gateway = Gateway(hub)
        honest = await gateway.ask(token)
        first = await honest.status()
        crowd = [await gateway.connect() for _ in range(20)]
        honest.send(token)
        second = await honest.status()
        for each in (*crowd, honest):
            each.close()
        return first, second

    assert asyncio.run(main()) == (200, 200)
