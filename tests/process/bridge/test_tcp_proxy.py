"""The proxy before a server of PostgreSQL brings each fault, to real clients."""

import socket
import time
from collections.abc import Iterator

import psycopg
import pytest
from place import until
from postgres_server import PostgresServer
from tcp_proxy import TcpProxy


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(tcp=True) as started:
        started.run_sql("CREATE TABLE kept(number int)")
        yield started


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[TcpProxy]:
    with TcpProxy(server.port) as started:
        yield started


@pytest.fixture
def connection(server: PostgresServer, proxy: TcpProxy) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.tcp_url(port=proxy.port)) as connected:
        yield connected


def test_what_is_asked_is_answered_late_where_the_network_is_slow(proxy, connection) -> None:
    proxy.delay_s = 0.1
    begun = time.monotonic()
    assert connection.execute("SELECT 1").fetchall() == [(1,)]
    assert time.monotonic() - begun > 0.2


def test_a_cut_is_noticed_by_both_ends_and_the_next_connection_is_taken(
    server, proxy, connection
) -> None:
    [(pid,)] = connection.execute("SELECT pg_backend_pid()").fetchall()
    proxy.cut()
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    until(lambda: not server.run_sql("SELECT 1 FROM pg_stat_activity WHERE pid=%s", pid))
    with psycopg.connect(server.tcp_url(port=proxy.port)) as another:
        assert another.execute("SELECT 1").fetchall() == [(1,)]


def test_nobody_connects_while_connections_are_refused(proxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), 5)
    proxy.mend()
    socket.create_connection(("127.0.0.1", proxy.port), 5).close()


def test_where_all_is_swallowed_nothing_is_said_and_what_was_swallowed_stays_lost(
    server, proxy
) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
        client.settimeout(0.3)
        proxy.swallow()
        client.sendall(b"\0" * 8)
        with pytest.raises(TimeoutError):
            client.recv(1)
        proxy.mend()
        client.sendall(b"\0" * 8)
        with pytest.raises(TimeoutError):
            client.recv(1)
    with psycopg.connect(server.tcp_url(port=proxy.port)) as another:
        assert another.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize("prepared", [True, False])
def test_a_commit_is_done_though_its_answer_is_cut(server, proxy, connection, prepared) -> None:
    connection.execute("DELETE FROM kept", prepare=prepared)
    connection.execute("INSERT INTO kept VALUES(%s)", (7,), prepare=prepared)
    proxy.cut_next_commit()
    with pytest.raises(psycopg.OperationalError):
        connection.commit()
    assert proxy.cut_a_commit.is_set()
    assert server.run_sql("SELECT number FROM kept") == [(7,)]


def test_whoever_connects_to_a_server_that_is_down_is_cut(server, proxy) -> None:
    server.stop()
    try:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.tcp_url(port=proxy.port))
    finally:
        server.start()
