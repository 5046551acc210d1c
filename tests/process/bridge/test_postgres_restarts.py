"""A PostgreSQL server that ends, and sessions that it ends, in the middle of the work."""

import pytest
from answerers import LEASE
from bridge_calls import answered, settle, talk
from postgres_calls import answers, claimed, repeated, require_one_answer, within
from postgres_server import PostgresServer

from autopoll.bridge.postgres import PostgresBridge
from autopoll.errors import BridgeError, BridgeUnavailable


def end_session(server: PostgresServer, bridge: PostgresBridge) -> None:
    """Have the server end the session of a bridge."""
    [(pid,)] = bridge._db.rows("SELECT pg_backend_pid()")
    assert server.run_sql("SELECT pg_terminate_backend(%s, 10000)", pid) == [(True,)]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_bridge_goes_on_after_the_server_was_stopped_and_started(
    server, name, open_bridge, caplog, mode: str
) -> None:
    bridge = open_bridge(server.tcp_url(name))
    held = claimed(bridge)
    talk(bridge)  # by a durable commit, so that a crash does not undo the claim
    server.stop(mode)
    for _ in range(3):
        with within(1.0), pytest.raises(BridgeUnavailable):
            bridge.deliveries.renew([(held.message_id, held.fence)], "me", LEASE)
    server.start()
    assert repeated(bridge.overview.in_flight) == {"main": 1}
    assert "another server" not in caplog.text
    require_one_answer(bridge, held)


def test_nothing_is_changed_where_the_session_is_ended_before_its_commit(
    server, name, open_bridge, monkeypatch
) -> None:
    bridge = open_bridge(server.tcp_url(name))
    held = claimed(bridge)
    commit = bridge._db._commit

    def end_first() -> None:
        end_session(server, bridge)
        commit()

    with monkeypatch.context() as patched, pytest.raises(BridgeUnavailable):
        patched.setattr(bridge._db, "_commit", end_first)
        settle(bridge, answered(held))
    assert answers(bridge, held) == []
    require_one_answer(bridge, held)


def test_a_transaction_is_not_carried_on_by_another_session(server, name, open_bridge) -> None:
    bridge = open_bridge(server.tcp_url(name))
    conversation = talk(bridge)
    insert = "INSERT INTO messages(conversation_id,message) VALUES(?,'half')"
    with pytest.raises(BridgeUnavailable), bridge._db.writing():
        end_session(server, bridge)
        with pytest.raises(BridgeUnavailable):
            bridge._db.rows(insert, (conversation,))
        bridge._db.rows(insert, (conversation,))
    assert bridge.messages.find(conversation=conversation) == []


def test_what_the_server_rolled_back_is_not_taken_for_committed(server, name, open_bridge) -> None:
    bridge = open_bridge(server.tcp_url(name))
    with pytest.raises(BridgeError, match="rolled back"), bridge._db.writing():
        bridge._db.rows("INSERT INTO messages(message) VALUES('half')")
        with pytest.raises(BridgeError):
            bridge._db.rows("SELECT 1/0")
    assert bridge.messages.find() == []
