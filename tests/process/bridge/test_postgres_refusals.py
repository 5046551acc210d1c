"""Servers, databases and roles that cannot be used: each is refused by name, and left as it was."""

import psycopg
import pytest
from bridge_calls import ask, claim_one, talk
from place import until
from postgres_calls import claimed, repeated, require_one_answer, within
from postgres_server import PostgresServer

from autopoll.bridge.postgres import PostgresBridge, schema
from autopoll.bridge.records import BridgeLimits
from autopoll.errors import BridgeError, BridgeUnavailable


def open_in_vain(url: str, **given: bool) -> BridgeError:
    """Open a bridge that is refused; return the error."""
    with pytest.raises(BridgeError) as refused:
        PostgresBridge(url, BridgeLimits(), **{"create": True, **given})
    return refused.value


def has_schema(server: PostgresServer, name: str) -> bool:
    return (
        server.run_sql("SELECT 1 FROM pg_namespace WHERE nspname='autopoll'", database=name) != []
    )


@pytest.fixture
def role(server: PostgresServer, name: str) -> str:
    """A role that may connect, named as its database."""
    server.run_sql(f"CREATE ROLE {name} LOGIN")
    return name


def as_role(server: PostgresServer, name: str, role: str) -> str:
    return server.tcp_url(name).replace("postgres@", f"{role}@")


def test_a_server_that_is_too_old_is_refused_and_left_as_it_is(server, name, monkeypatch) -> None:
    monkeypatch.setattr(schema, "OLDEST_SERVER", 990000)
    refused = open_in_vain(server.tcp_url(name))
    assert "too old" in refused.what
    assert "99 or newer" in refused.mend
    assert not has_schema(server, name)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_holds_not_every_text_is_refused_and_left_as_it_is(
    server, encoding: str
) -> None:
    name = encoding.lower()
    server.run_sql(
        f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C'"
        " LC_CTYPE 'C'"
    )
    refused = open_in_vain(server.tcp_url(name))
    assert f"has the encoding {encoding}" in refused.what
    assert "ENCODING 'UTF8'" in refused.mend
    assert not has_schema(server, name)


def test_every_text_goes_through_where_the_environment_asks_for_another_encoding(
    server, name, open_bridge, monkeypatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    bridge = open_bridge(server.tcp_url(name))
    text = "\u20ac \U0001f337 \u4f60"
    ask(bridge, talk(bridge), text)
    assert claim_one(bridge).text == text


def test_a_role_that_may_make_no_schema_is_refused(server, name, role) -> None:
    refused = open_in_vain(as_role(server, name, role))
    assert "permission denied for database" in refused.what
    assert "GRANT" in refused.mend
    assert not has_schema(server, name)


def test_a_role_with_the_grants_can_do_all_but_migrate(
    server, name, role, open_bridge, monkeypatch
) -> None:
    open_bridge(server.tcp_url(name))
    server.run_sql(schema.grants_sql(role), database=name)
    bridge = open_bridge(as_role(server, name, role))
    require_one_answer(bridge, claimed(bridge))
    monkeypatch.setattr(schema, "KNOWN", schema.KNOWN + 1)
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, "CREATE TABLE autopoll.more();"))
    refused = open_in_vain(as_role(server, name, role))
    assert "GRANT" in refused.mend


@pytest.mark.parametrize(
    ("right", "of"),
    [("USAGE", "SCHEMA autopoll"), ("INSERT", "autopoll.messages"),
     ("USAGE", "SEQUENCE autopoll.messages_id"), ("EXECUTE", "FUNCTION autopoll.now_ms()")],
)  # fmt: skip
def test_a_right_that_is_missing_is_said_with_the_grants(
    server, name, role, open_bridge, right: str, of: str
) -> None:
    open_bridge(server.tcp_url(name))
    server.run_sql(schema.grants_sql(role), database=name)
    server.run_sql(f"REVOKE {right} ON {of} FROM {role}, PUBLIC", database=name)
    with pytest.raises(BridgeError, match="permission denied") as refused:
        claimed(open_bridge(as_role(server, name, role)))
    assert "GRANT" in refused.value.mend


def test_a_role_that_may_not_read_which_server_it_is_works_all_the_same(
    server, name, role, open_bridge
) -> None:
    open_bridge(server.tcp_url(name)).close()
    server.run_sql(schema.grants_sql(role), database=name)
    server.run_sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC", database=name)
    bridge = open_bridge(as_role(server, name, role))
    claimed(bridge)
    assert bridge._db.reconnection.connection.identity is None


def test_a_server_without_a_free_connection_is_waited_for(server, name, role, open_bridge) -> None:
    open_bridge(server.tcp_url(name))
    server.run_sql(schema.grants_sql(role), database=name)
    bridge = open_bridge(as_role(server, name, role))
    held = claimed(bridge)
    server.run_sql(f"ALTER ROLE {role} CONNECTION LIMIT 1")
    bridge._db.reconnection.drop("as a network may do")
    with until(lambda: connect_at_last(as_role(server, name, role))):
        with within(), pytest.raises(BridgeUnavailable, match="too many") as refused:
            bridge.overview.counts()
        assert "max_connections" in refused.value.mend
    assert repeated(bridge.overview.in_flight) == {"main": 1}
    require_one_answer(bridge, held)


def connect_at_last(url: str) -> psycopg.Connection | None:
    """Connect, if there is a connection left."""
    try:
        return psycopg.connect(url)
    except psycopg.OperationalError:
        return None


@pytest.mark.parametrize("what", ["user", "database"])
def test_who_is_not_known_to_the_server_is_told_so(server, name, what: str) -> None:
    url = server.tcp_url(name)
    wrong = url.replace("postgres@", "stranger@") if what == "user" else f"{url}_not"
    refused = open_in_vain(wrong)
    assert "does not exist" in refused.what
    assert what in refused.mend
