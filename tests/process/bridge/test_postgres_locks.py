"""Sessions of others that lock rows and tables for long, or get in each other's way."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import psycopg
import pytest
from answerers import LEASE
from bridge_calls import answered, arrival, ask, claim, renew, settle, talk
from place import until
from postgres_calls import answers, claimed, repeated, require_one_answer, waiting_for_locks, within
from postgres_server import PostgresServer

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Delivery
from autopoll.bridge.retention_protocol import Ages, SweepPlace
from autopoll.errors import BridgeBusy

HOLDS = """
import sys
from autopoll.bridge.postgres.connection import PostgresDatabase
db = PostgresDatabase(sys.argv[1])
with db.writing():
    db.lock_conversations([sys.argv[2]])
    print("locked", flush=True)
    sys.stdin.read()
"""
CALLS: dict[str, Callable[[Bridge, Delivery], object]] = {
    "settle": lambda bridge, held: settle(bridge, answered(held)),
    "store": lambda bridge, held: bridge.messages.store([arrival(held.conversation, "and?")]),
    "renew": lambda bridge, held: bridge.deliveries.renew(
        [(held.message_id, held.fence)], "me", LEASE
    ),
}
OURS = 0x6175746F  # of the advisory locks of autopoll
LOCKED = {
    "conversation": "SELECT 1 FROM autopoll.conversations FOR UPDATE",
    "delivery": "SELECT 1 FROM autopoll.deliveries FOR UPDATE",
    "deliveries": "LOCK autopoll.deliveries",
    "messages": "LOCK autopoll.messages",
}


def expire(server: PostgresServer, name: str) -> None:
    """End all leases."""
    server.run_sql("UPDATE autopoll.deliveries SET lease_until=1", database=name)


@pytest.fixture
def bridge(server, name, open_bridge):
    return open_bridge(server.tcp_url(name))


@pytest.mark.parametrize(
    ("locked", "call"),
    [("conversation", "settle"), ("conversation", "store"), ("delivery", "settle"),
     ("delivery", "renew"), ("deliveries", "renew"), ("messages", "settle")],
)  # fmt: skip
def test_what_another_holds_locked_is_waited_for_no_longer_than_a_call(
    server, name, bridge, locked: str, call: str
) -> None:
    held = claimed(bridge)
    before = bridge.overview.counts(), len(bridge.messages.find())
    with psycopg.connect(server.url(name)) as other:
        other.execute(LOCKED[locked])
        with within(), pytest.raises(BridgeBusy, match="lock timeout"):
            CALLS[call](bridge, held)
    assert (bridge.overview.counts(), len(bridge.messages.find())) == before
    require_one_answer(bridge, held)


def test_what_is_locked_is_claimed_round_and_left_for_later(server, name, bridge) -> None:
    first, second = claimed(bridge), claimed(bridge)
    bridge.deliveries.release_unconfirmed("me", [])
    with psycopg.connect(server.url(name)) as other:
        other.execute(
            "SELECT 1 FROM autopoll.deliveries WHERE message_id=%s FOR UPDATE", [first.message_id]
        )
        with within(1.0):
            [taken] = bridge.deliveries.claim("me", {"main": 2}, LEASE)
        assert taken.message_id == second.message_id
    [taken] = bridge.deliveries.claim("me", {"main": 2}, LEASE)
    assert taken.message_id == first.message_id


def test_what_is_old_is_removed_by_one_host_at_a_time(server, name, bridge) -> None:
    held = claimed(bridge)
    require_one_answer(bridge, held)
    bridge.messages.receive(held.conversation, "a")
    server.run_sql("DELETE FROM autopoll.keys", database=name)  # it may not be asked again
    with psycopg.connect(server.url(name)) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s,hashtext('autopoll retention'))", [OURS])
        with within(1.0):
            removed, place = bridge.retention.sweep(Ages(answered=0), SweepPlace(), 10)
        assert (removed.rows, place) == (0, SweepPlace(1)), "it goes on with the next part"
        assert bridge.messages.query_state(held.message_id).state == "done"
    removed, _ = bridge.retention.sweep(Ages(answered=0), SweepPlace(), 10)
    assert removed.questions == 1


def test_what_is_new_in_a_locked_conversation_holds_up_nothing_that_is_new_elsewhere(
    server, name, bridge
) -> None:
    locked, free = talk(bridge), talk(bridge)
    [later], [at_once] = ask(bridge, locked, "later?"), ask(bridge, free, "at once?")
    with psycopg.connect(server.url(name)) as other:
        other.execute("SELECT 1 FROM autopoll.conversations WHERE id=%s FOR UPDATE", [locked])
        with within(1.0):
            assert [each.message_id for each in claim(bridge)] == [at_once]
    assert [each.message_id for each in claim(bridge)] == [later]


def test_while_one_host_reaps_no_other_does(server, name, bridge, open_bridge) -> None:
    held = claimed(bridge)
    expire(server, name)
    other = open_bridge(server.tcp_url(name))
    with bridge._db.writing():
        assert bridge._db.try_lock("autopoll reaper")
        assert other.deliveries.reap() == []
    assert [each.message_id for each in other.deliveries.reap()] == [held.message_id]


def test_a_lease_that_is_renewed_while_a_reap_waits_for_its_conversation_is_kept(
    server, name, bridge, open_bridge
) -> None:
    held = claimed(bridge)
    expire(server, name)
    reaping, ended = open_bridge(server.tcp_url(name)), []
    with psycopg.connect(server.url(name)) as other:
        other.execute("SELECT 1 FROM autopoll.conversations FOR UPDATE")
        reap = threading.Thread(target=lambda: ended.append(reaping.deliveries.reap()))
        reap.start()
        until(lambda: waiting_for_locks(server))
        assert renew(bridge, held)
    reap.join()
    assert ended == [[]]
    require_one_answer(bridge, held)


@pytest.mark.long
def test_reads_of_a_locked_table_end_in_time_and_leave_no_session_that_waits(
    server, name, bridge
) -> None:
    claimed(bridge)
    with psycopg.connect(server.url(name)) as other:
        other.execute("LOCK autopoll.deliveries")
        for _ in range(3):
            with within(), pytest.raises(BridgeBusy):
                bridge.overview.counts()
        assert waiting_for_locks(server) == 0
    assert bridge.overview.in_flight() == {"main": 1}


def test_of_two_that_wait_for_each_other_the_bridge_is_busy_and_has_changed_nothing(
    server, name, bridge
) -> None:
    held = claimed(bridge)
    outcome: list[BaseException] = []

    def settle_in_vain() -> None:
        try:
            settle(bridge, answered(held))
        except BridgeBusy as error:
            outcome.append(error)

    with psycopg.connect(server.url(name)) as other:
        other.execute("SET deadlock_timeout='1min'")  # so that it is not the one that is ended
        other.execute("SELECT 1 FROM autopoll.deliveries FOR UPDATE")
        settling = threading.Thread(target=settle_in_vain)
        settling.start()
        until(lambda: waiting_for_locks(server))
        other.execute("SELECT 1 FROM autopoll.conversations FOR UPDATE")  # the bridge has given up
        settling.join()
        assert "deadlock" in str(outcome[0])
    assert answers(bridge, held) == []
    require_one_answer(bridge, held)


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_transaction_that_the_server_gives_up_leaves_nothing(
    server, name, bridge, state: str
) -> None:
    held = claimed(bridge)
    server.run_sql(
        "CREATE FUNCTION give_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" RAISE EXCEPTION USING ERRCODE='{state}'; END $$;"
        " CREATE TRIGGER give_up AFTER INSERT ON autopoll.answers EXECUTE FUNCTION give_up()",
        database=name,
    )
    with pytest.raises(BridgeBusy):
        settle(bridge, answered(held))
    assert answers(bridge, held) == []
    server.run_sql("DROP TRIGGER give_up ON autopoll.answers", database=name)
    require_one_answer(bridge, held)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_database_with_another_isolation_gives_the_bridge_what_it_counts_on(
    server, name, open_bridge, level: str
) -> None:
    server.run_sql(f"ALTER DATABASE {name} SET default_transaction_isolation='{level}'")
    bridge, other = (open_bridge(server.tcp_url(name)) for _ in range(2))
    held = claimed(bridge)
    with bridge._db.writing():
        assert other.deliveries.renew([(held.message_id, held.fence)], "me", LEASE)
        assert bridge._db.rows("SELECT fence FROM deliveries FOR UPDATE") == [(held.fence,)]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_locks_of_a_client_that_is_killed_or_stopped_are_given_up(
    server, name, bridge, number: signal.Signals
) -> None:
    held = claimed(bridge)
    arguments = [sys.executable, "-c", HOLDS, server.tcp_url(name), held.conversation]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe) as client:
        assert client.stdout and client.stdout.readline()
        client.send_signal(number)
        kept = 0.0 if number == signal.SIGKILL else 5.0  # s
        try:
            with within(kept):
                settled = repeated(lambda: settle(bridge, answered(held)), error=BridgeBusy)
        finally:
            client.kill()
    assert answers(bridge, held) == [settled.answer_id]
