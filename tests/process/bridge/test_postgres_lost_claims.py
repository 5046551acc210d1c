"""A claim that a crash or a failover undoes, while the worker that was asked lives on.

What was stored or settled it does not undo. The fence of a claim is given out once more, to another
owner. The owner tells the two apart.
"""

from collections.abc import Iterator
from typing import Self

import pytest
from bridge_calls import answered, arrival, ask, claim, renew, settle, talk, turn
from place import until
from postgres_calls import answers, repeated
from postgres_server import PostgresServer

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Delivery


class Standby(PostgresServer):
    """A server that follows another until that is gone."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__(primary.binaries, tcp=True)
        self._primary = primary

    def __enter__(self) -> Self:
        try:
            source = self._primary.url()
            self.run("pg_basebackup", "-d", source, "-D", str(self.data), "-R", "--no-sync",
                     "-c", "fast")  # fmt: skip
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    # What is not committed synchronously is not written before the server is killed.
    with PostgresServer(tcp=True, wal_writer_delay="10s") as server:
        yield server


def crash(server: PostgresServer) -> None:
    """End a server with what it has not written, and start it again."""
    server.kill()
    server.start()


def require_the_other_answers(old: Bridge, new: Bridge, lost: Delivery) -> None:
    """See that of two owners with one fence the one answers whose claim the server knows."""
    [taken] = repeated(lambda: claim(new, owner="new"))
    assert (taken.message_id, taken.fence) == (lost.message_id, lost.fence)
    assert settle(old, answered(lost, "of the old"), "old").state == "lost"
    assert not renew(old, lost, "old")
    assert old.deliveries.release_unconfirmed("old", []) == 0
    settled = settle(new, answered(taken), "new")
    assert settled.state == "done"
    assert settle(old, answered(lost, "of the old"), "old").state == "lost"
    assert answers(new, lost) == [settled.answer_id]


def test_after_a_crash_that_undid_its_claim_an_owner_settles_nothing(primary, open_bridge) -> None:
    old, new = (open_bridge(primary.tcp_url()) for _ in range(2))
    ask(old, talk(old), "why?")
    [lost] = claim(old, owner="old")
    crash(primary)
    assert repeated(old.overview.in_flight) == {}
    require_the_other_answers(old, new, lost)


@pytest.mark.parametrize("by_turn", [True, False])
def test_what_was_stored_or_settled_survives_a_crash_of_the_server_at_once(
    primary, open_bridge, by_turn: bool
) -> None:
    bridge = open_bridge(primary.tcp_url())
    conversation = talk(bridge)
    new = arrival(conversation, "stored?")
    stored = turn(bridge, new, count=0).stored if by_turn else bridge.messages.store([new])
    crash(primary)
    [held] = repeated(lambda: claim(bridge))
    assert [held.message_id] == [one.id for one in stored]
    if by_turn:
        turn(bridge, outcomes=[answered(held)], count=0)
    else:
        settle(bridge, answered(held))
    crash(primary)
    assert repeated(lambda: bridge.messages.query_state(held.message_id)).state == "done"
    assert len(answers(bridge, held)) == 1


def test_where_a_standby_without_its_claim_was_promoted_an_owner_settles_nothing_and_it_is_logged(
    primary, open_bridge, caplog
) -> None:
    with Standby(primary) as standby:
        url = f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres"
        old, new = (open_bridge(url) for _ in range(2))
        ask(old, talk(old), "why?")
        [(end,)] = primary.run_sql("SELECT pg_current_wal_lsn()")
        replayed = "SELECT pg_last_wal_replay_lsn()>=%s::pg_lsn"
        until(lambda: standby.run_sql(replayed, end) == [(True,)])
        standby.stop()
        [lost] = claim(old, owner="old")
        assert settle(old, answered(lost, "on the primary"), "old").state == "done"
        primary.kill()
        standby.start()
        standby.run_sql("SELECT pg_promote()")
        assert repeated(old.overview.in_flight) == {}
        require_the_other_answers(old, new, lost)
        assert "a standby that was promoted" in caplog.text
        assert old._db.reconnection.connection.info.port == standby.port


def test_a_standby_and_its_asynchronous_copying_are_named_by_the_warnings_of_the_bridge(
    primary, open_bridge
) -> None:
    writer = open_bridge(primary.tcp_url())
    with Standby(primary) as standby:
        until(lambda: [each for each in writer.warnings() if each.name == "replication"])
        reader = open_bridge(standby.tcp_url(), read_only=True)
        [found] = [each for each in reader.warnings() if each.name == "standby"]
        assert "takes no writes" in found.detail and "primary" in found.mend
