"""Whatever keeps one attempt to connect from its end, the next call makes another."""

import threading
from typing import NoReturn

import pytest
from bridge_calls import talk
from place import until
from postgres_calls import repeated

from autopoll.bridge.postgres import PostgresBridge, reconnection
from autopoll.errors import BridgeError, BridgeUnavailable, RowRefused


@pytest.fixture
def bridge(server, name, open_bridge) -> PostgresBridge:
    """A bridge that has lost its connection."""
    bridge: PostgresBridge = open_bridge(server.tcp_url(name))
    talk(bridge)
    bridge._db.reconnection.drop("for a test")
    return bridge


def require_attempts_again(bridge: PostgresBridge) -> None:
    assert len(repeated(bridge.conversations.all, error=BridgeError)) == 1


def test_a_thread_that_could_not_be_started_is_started_later(bridge, monkeypatch) -> None:
    def no_room(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_room)
        with pytest.raises(BridgeUnavailable, match="can't start new thread"):
            bridge.conversations.all()
    require_attempts_again(bridge)


def test_an_error_that_is_none_of_the_driver_ends_one_attempt_alone(bridge, monkeypatch) -> None:
    def fail(**_: object) -> NoReturn:
        raise TimeoutError("of the system")

    with monkeypatch.context() as patched:
        patched.setattr(reconnection.BoundedConnection, "connect", fail)
        with pytest.raises(BridgeUnavailable, match="TimeoutError: of the system"):
            bridge.conversations.all()
    require_attempts_again(bridge)


def test_a_connection_that_fails_at_its_first_statement_is_closed(
    server, name, bridge, monkeypatch
) -> None:
    sessions = "SELECT 1 FROM pg_stat_activity WHERE application_name='autopoll' AND datname=%s"
    with monkeypatch.context() as patched:
        patched.setattr(reconnection, "_SET_LIMITS", "SET lock_timeout='of no time'")
        with pytest.raises(RowRefused) as failed:
            bridge.conversations.all()
        assert failed.value.__cause__  # which knows of the connection
        until(lambda: server.run_sql(sessions, name) == [])
    require_attempts_again(bridge)
