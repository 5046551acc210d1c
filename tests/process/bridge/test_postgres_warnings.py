"""What about a server does no harm yet, made for real, and named by the bridge."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from bridge_calls import talk

from autopoll.bridge.postgres import PostgresBridge, server_check
from autopoll.bridge.records import BridgeLimits, StoreWarning


@pytest.fixture
def bridge(database: str) -> Iterator[PostgresBridge]:
    with closing(PostgresBridge(database, BridgeLimits(), create=True)) as bridge:
        yield bridge


@pytest.fixture
def operator(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def named(bridge: PostgresBridge, name: str) -> list[StoreWarning]:
    # The server of the tests has its autovacuum off, as a whole.
    return [
        each for each in bridge.warnings() if each.name == name and "tables only" not in each.detail
    ]


def test_a_server_that_sweeps_nothing_up_is_named(bridge: PostgresBridge) -> None:
    off = [each for each in bridge.warnings() if each.name == "autovacuum"]
    assert [each.detail for each in off] == ["autovacuum is off: tables only grow"]


def test_of_a_server_that_is_well_nothing_else_is_said(bridge: PostgresBridge) -> None:
    talk(bridge)
    assert named(bridge, "autovacuum") == []
    assert named(bridge, "standby") == named(bridge, "pooler") == []
    assert named(bridge, "privileges") == named(bridge, "replication slot") == []


def test_a_transaction_that_is_open_for_long_is_named_with_what_ends_it(
    bridge: PostgresBridge, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_check, "_OLD_S", 0)
    with psycopg.connect(database, application_name="report") as idle:
        idle.execute("SELECT 1")
        [found] = named(bridge, "old transaction")
        pid = idle.info.backend_pid
        assert f"backend {pid}" in found.detail or "report" in found.detail
        assert f"pg_terminate_backend({pid})" in found.mend


def test_a_table_that_is_never_swept_is_named_and_the_mend_mends_it(
    bridge: PostgresBridge, operator: psycopg.Connection
) -> None:
    operator.execute("ALTER TABLE autopoll.deliveries SET (autovacuum_enabled=false)")
    [found] = named(bridge, "autovacuum")
    assert "autopoll.deliveries" in found.detail
    operator.execute(found.mend.encode())
    assert named(bridge, "autovacuum") == []


def test_a_role_that_lacks_a_privilege_is_named_with_it(
    bridge: PostgresBridge, operator: psycopg.Connection, database: str
) -> None:
    operator.execute("DROP ROLE IF EXISTS lacking")
    operator.execute("CREATE ROLE lacking LOGIN")
    operator.execute("GRANT USAGE ON SCHEMA autopoll TO lacking")
    operator.execute("GRANT SELECT ON ALL TABLES IN SCHEMA autopoll TO lacking")
    operator.execute("GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA autopoll TO lacking")
    operator.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA autopoll TO lacking")
    operator.execute("REVOKE DELETE ON autopoll.keys FROM lacking")
    try:
        operator.execute("SET ROLE lacking")
        rows = operator.execute(
            server_check._DENIED.replace("?", "%s"), (["keys"], "autopoll")
        ).fetchall()
        assert rows == [("keys", "DELETE")]
    finally:
        operator.execute("RESET ROLE")
        operator.execute("DROP OWNED BY lacking")
        operator.execute("DROP ROLE lacking")


def test_connections_that_are_nearly_used_up_are_named(
    bridge: PostgresBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_check, "_NEARLY", 0.0)
    [found] = named(bridge, "connections")
    assert "connections are used" in found.detail


def test_a_replication_slot_that_nobody_reads_is_named_and_the_mend_drops_it(
    bridge: PostgresBridge, operator: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_check, "_SLOT_BYTES", 0)
    operator.execute("SELECT pg_create_physical_replication_slot('left_over', true)")
    try:
        [found] = named(bridge, "replication slot")
        assert "left_over" in found.detail
    finally:
        operator.execute(found.mend.partition(";")[0].encode())
    assert named(bridge, "replication slot") == []
