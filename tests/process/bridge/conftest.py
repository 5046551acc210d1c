"""Bridges on a PostgreSQL server that a test may strike."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from postgres_server import PostgresServer
from tcp_proxy import TcpProxy

from autopoll.bridge.postgres import PostgresBridge
from autopoll.bridge.records import BridgeLimits

Opener = Callable[..., PostgresBridge]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of the module's own."""
    with PostgresServer(tcp=True) as started:
        yield started


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[TcpProxy]:
    with TcpProxy(server.port) as started:
        yield started


@pytest.fixture
def name(server: PostgresServer) -> str:
    """The name of an empty database, which ends with the server."""
    return server.create_database()


@pytest.fixture
def open_bridge() -> Iterator[Opener]:
    """Open bridges that are closed when the test ends."""
    with ExitStack() as closing:

        def opened(url: str, **given: object) -> PostgresBridge:
            bridge = PostgresBridge(url, BridgeLimits(), create=True, **given)
            closing.callback(bridge.close)
            return bridge

        yield opened
