"""Several that migrate the schema at once, one that is killed meanwhile, and releases that mix."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import psycopg
import pytest
from answerers import LEASE
from bridge_calls import claim
from place import until
from postgres_calls import claimed, require_one_answer, waiting_for_locks, within

from autopoll.bridge.postgres import PostgresBridge, schema
from autopoll.bridge.records import LONGEST_CALL_S, BridgeLimits
from autopoll.errors import BridgeError

OPENS = """
import sys
from autopoll.bridge.postgres import PostgresBridge
from autopoll.bridge.records import BridgeLimits
bridge = PostgresBridge(sys.argv[1], BridgeLimits(), create=True)
assert bridge.examine(1.0)
print(bridge.overview.counts())
"""
STOPS_BEFORE_ITS_COMMIT = """
import sys
from autopoll.bridge.postgres.connection import PostgresDatabase
def stop(db):
    db.rows("SELECT 1 FROM autopoll.deliveries")
    print("migrated", flush=True)
    sys.stdin.read()
PostgresDatabase._commit = stop
"""
WAITS_FOR = """SELECT 1 FROM pg_stat_activity
  WHERE wait_event_type='Lock' AND clock_timestamp()-query_start>%s"""
# A question as a host leaves it that has leased it and died, in its first attempt.
CLAIMED_BY_OTHERS = """INSERT INTO autopoll.conversations(id, session_a_token, session_b_token,
    session_a_role, session_b_role, created_at) VALUES('{0}', 'a', 'b', 'x', 'y', '2026-01-01');
  INSERT INTO autopoll.routes(conversation_id, session, shard) VALUES('{0}', 'b', 'main');
  WITH m AS (INSERT INTO autopoll.messages(conversation_id, from_session, to_session, message,
      timestamp, read, unseen) VALUES('{0}', 'a', 'b', 'why?', '2026-01-01', 1, false) RETURNING id)
  INSERT INTO autopoll.deliveries(message_id, conversation_id, to_session, shard, lane, state,
      attempts, fence, owner, lease_until, enrolled_at, changed_at)
    SELECT id, '{0}', 'b', 'main', '{0}/b', 'leased', 1, 1, 'gone', 1, 1, 1 FROM m"""
ADDED = "CREATE TABLE autopoll.of_the_next_release();\n"


@contextmanager
def process(script: str, url: str) -> "Iterator[subprocess.Popen[str]]":
    """Run a script, which is killed at the end of the block if it has not ended."""
    with subprocess.Popen(
        [sys.executable, "-c", script, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def be_next_release(monkeypatch: pytest.MonkeyPatch, oldest_compatible: int) -> None:
    """Be the release after this one, with one step more."""
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, ADDED))
    monkeypatch.setattr(schema, "KNOWN", schema.KNOWN + 1)
    monkeypatch.setattr(schema, "OLDEST_COMPATIBLE", oldest_compatible)


def version(server, name: str) -> list[tuple[int, int]]:
    return server.run_sql("SELECT version, oldest_compatible FROM autopoll.schema", database=name)


@pytest.mark.long
def test_eight_processes_that_make_the_schema_at_once_all_get_it(server, name) -> None:
    with ExitStack() as ending:
        opening = [ending.enter_context(process(OPENS, server.tcp_url(name))) for _ in range(8)]
        for each in opening:
            out, errors = each.communicate(timeout=120)
            assert each.returncode == 0, errors
            assert "ready" in out
    assert version(server, name) == [(schema.KNOWN, schema.OLDEST_COMPATIBLE)]


@pytest.mark.long
def test_whoever_is_killed_in_the_middle_of_a_migration_leaves_nothing(
    server, name, open_bridge
) -> None:
    with process(STOPS_BEFORE_ITS_COMMIT + OPENS, server.tcp_url(name)) as killed:
        assert killed.stdout and killed.stdout.readline()
        with process(OPENS, server.tcp_url(name)) as next_in_turn:
            until(lambda: waiting_for_locks(server))
            assert server.run_sql("SELECT to_regclass('autopoll.schema')", database=name) == [
                (None,)
            ]
            killed.kill()
            _, errors = next_in_turn.communicate(timeout=60)
            assert next_in_turn.returncode == 0, errors
    bridge = open_bridge(server.tcp_url(name))
    require_one_answer(bridge, claimed(bridge))


@pytest.mark.long
def test_a_migration_that_stops_in_the_middle_is_given_up_for_the_next(server, name) -> None:
    with process(STOPS_BEFORE_ITS_COMMIT + OPENS, server.tcp_url(name)) as stopped:
        assert stopped.stdout and stopped.stdout.readline()
        with within(6.0), process(OPENS, server.tcp_url(name)) as next_in_turn:
            _, errors = next_in_turn.communicate(timeout=60)
            assert next_in_turn.returncode == 0, errors


@pytest.mark.long
def test_a_migration_waits_longer_than_a_call_for_the_one_before(server, name) -> None:
    with psycopg.connect(server.url(name)) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [schema.MIGRATION])
        with process(OPENS, server.tcp_url(name)) as waits:
            until(lambda: server.run_sql(WAITS_FOR, timedelta(seconds=LONGEST_CALL_S + 0.5)))
            assert waits.poll() is None
            other.rollback()
            _, errors = waits.communicate(timeout=60)
            assert waits.returncode == 0, errors


def test_hosts_of_neighbouring_releases_work_together(
    server, name, open_bridge, monkeypatch
) -> None:
    old = open_bridge(server.tcp_url(name))
    held = claimed(old)
    with monkeypatch.context() as patched:
        be_next_release(patched, oldest_compatible=schema.KNOWN)
        with pytest.raises(BridgeError, match="older schema version"):
            PostgresBridge(server.tcp_url(name), BridgeLimits(), read_only=True)
        new = open_bridge(server.tcp_url(name))
    assert version(server, name) == [(schema.KNOWN + 1, schema.KNOWN)]
    for bridge in (new, open_bridge(server.tcp_url(name)), old):
        require_one_answer(bridge, claimed(bridge))
    require_one_answer(new, held)
    assert version(server, name) == [(schema.KNOWN + 1, schema.KNOWN)]


def test_what_a_host_of_the_version_before_has_in_hand_is_carried_on(
    server, name, open_bridge, monkeypatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "STEPS", schema.STEPS[:-1])
        patched.setattr(schema, "KNOWN", schema.KNOWN - 1)
        server.run_sql(schema.schema_sql(), database=name)
    bridge, conversations = None, []
    for when in ("before", "after"):  # the migration, which it does not notice
        conversation = f"conv_{when}"
        server.run_sql(CLAIMED_BY_OTHERS.format(conversation), database=name)
        bridge = bridge or open_bridge(server.tcp_url(name))
        conversations.append(conversation)
    assert bridge
    assert version(server, name) == [(schema.KNOWN, schema.OLDEST_COMPATIBLE)]
    assert bridge.deliveries.renew([], "me", LEASE) == set()
    assert [each.state for each in bridge.deliveries.reap()] == ["ready"] * 2
    held = claim(bridge)
    assert [(each.conversation, each.attempt, each.fence) for each in held] == [
        (conversation, 2, 2) for conversation in conversations
    ]
    for each in held:
        require_one_answer(bridge, each)
        assert bridge.overview.history(each.message_id).state == "done"


def test_a_release_that_is_too_old_for_the_schema_is_refused(
    server, name, open_bridge, monkeypatch
) -> None:
    with monkeypatch.context() as patched:
        be_next_release(patched, oldest_compatible=schema.KNOWN + 1)
        open_bridge(server.tcp_url(name))
    for read_only in (False, True):
        with pytest.raises(BridgeError, match="Upgrade autopoll") as refused:
            PostgresBridge(server.tcp_url(name), BridgeLimits(), read_only=read_only)
        assert f"version {schema.KNOWN + 1}" in refused.value.what
    assert version(server, name) == [(schema.KNOWN + 1, schema.KNOWN + 1)]


def test_the_sql_that_is_printed_makes_the_schema_migrates_it_and_does_nothing_again(
    server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        server.run_sql(schema.schema_sql(), database=name)
        assert version(server, name) == [(schema.KNOWN, schema.OLDEST_COMPATIBLE)]
    with ExitStack() as stack:
        bridge = PostgresBridge(server.url(name), BridgeLimits())
        stack.callback(bridge.close)
        require_one_answer(bridge, claimed(bridge))
    be_next_release(monkeypatch, oldest_compatible=1)
    for _ in range(2):
        server.run_sql(schema.schema_sql(), database=name)
        assert version(server, name) == [(schema.KNOWN, 1)]
    server.run_sql("SELECT * FROM autopoll.of_the_next_release", database=name)


def test_a_role_that_is_granted_what_is_printed_uses_the_bridge_and_migrates_nothing(
    server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"user_{name}"
    server.run_sql(f"CREATE ROLE {role} LOGIN")
    server.run_sql(schema.schema_sql(), database=name)
    server.run_sql(schema.grants_sql(role), database=name)
    url = server.url(name).replace("//postgres", f"//{role}", 1)
    bridge = PostgresBridge(url, BridgeLimits())
    try:
        require_one_answer(bridge, claimed(bridge))
        assert bridge.messages.newest() > 0
        assert bridge.deliveries.reap() == []
    finally:
        bridge.close()
    be_next_release(monkeypatch, oldest_compatible=1)
    with pytest.raises(BridgeError, match="refuses this role"):
        PostgresBridge(url, BridgeLimits())
