"""A PostgreSQL server that takes no more writes, as an old primary does: another one is sought."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from bridge_calls import answered, settle
from postgres_calls import answers, claimed, repeated, require_one_answer, within
from postgres_server import PostgresServer

from autopoll.errors import BridgeUnavailable


@pytest.fixture
def old() -> Iterator[PostgresServer]:
    with PostgresServer(tcp=True) as started:
        yield started


def set_read_only(server: PostgresServer, value: str) -> None:
    """Have all sessions, those that are there as well, write nothing."""
    server.run_sql(f"ALTER SYSTEM SET default_transaction_read_only={value}")
    server.run_sql("SELECT pg_reload_conf()")


def test_a_bridge_waits_for_a_server_that_takes_no_writes(old, open_bridge) -> None:
    bridge = open_bridge(old.tcp_url())
    held = claimed(bridge)
    set_read_only(old, "on")
    with within(), pytest.raises(BridgeUnavailable, match="read-only"):
        while True:  # the session is told a moment later
            bridge.conversations.audit(held.conversation, "a", "looked", "{}")
    for _ in range(3):
        with within(1.0), pytest.raises(BridgeUnavailable, match="read-only"):
            settle(bridge, answered(held))
    set_read_only(old, "off")
    assert repeated(lambda: settle(bridge, answered(held))).state == "done"
    assert len(answers(bridge, held)) == 1


def test_a_bridge_goes_over_to_the_server_that_takes_writes(old, server, open_bridge) -> None:
    servers = f"127.0.0.1:{old.port},127.0.0.1:{server.port}"
    set_read_only(server, "on")
    bridge = open_bridge(f"postgresql://postgres@{servers}/postgres")
    assert bridge._db.reconnection.connection.info.port == old.port
    set_read_only(server, "off")
    open_bridge(server.tcp_url())
    set_read_only(old, "on")
    repeated(lambda: claimed(bridge))
    assert bridge._db.reconnection.connection.info.port == server.port
    require_one_answer(bridge, claimed(bridge))


def test_news_are_listened_for_at_the_server_that_takes_writes(old, server, open_bridge) -> None:
    open_bridge(server.tcp_url())
    set_read_only(old, "on")
    servers = f"127.0.0.1:{old.port},127.0.0.1:{server.port}"
    bridge = open_bridge(f"postgresql://postgres@{servers}/postgres")
    with closing(bridge.watch()) as watch:
        assert watch._connection.info.port == server.port


def test_a_bridge_that_only_reads_is_content_with_a_server_that_takes_no_writes(
    old, open_bridge
) -> None:
    held = claimed(open_bridge(old.tcp_url()))
    set_read_only(old, "on")
    with within():
        reader = open_bridge(old.tcp_url(), read_only=True)
        assert reader.overview.in_flight() == {"main": 1}
        assert answers(reader, held) == []
