"""A bridge through PgBouncer in transaction mode, where no session is kept between transactions."""

from collections.abc import Iterator

import pytest
from answerers import LEASE, take_over
from bridge_calls import answered, arrival, ask, claim, settle, stored, talk
from pgbouncer import PgBouncer
from place import until
from postgres_calls import answers, claimed, repeated, require_one_answer

from autopoll.bridge.postgres import PostgresBridge
from autopoll.errors import BridgeError

pytestmark = pytest.mark.long  # for what it needs


@pytest.fixture
def pooler(server, tmp_path) -> Iterator[PgBouncer]:
    folder = tmp_path / "pgbouncer"
    folder.mkdir()
    with PgBouncer(server, folder) as started:
        yield started


@pytest.fixture
def bridges(server, name, pooler, open_bridge) -> list[PostgresBridge]:
    """More than there are sessions."""
    return [open_bridge(server.tcp_url(name, pooler.port)) for _ in range(5)]


def test_bridges_that_share_sessions_ask_claim_and_answer(bridges) -> None:
    conversations = [talk(each) for each in bridges]
    take_over(bridges[0])
    for _ in range(8):  # beyond the number of times after which the driver prepares a statement
        for bridge, conversation in zip(bridges, conversations, strict=True):
            ask(bridge, conversation, "why?")
        held = claim(bridges[0], count=5)
        assert len(held) == 5
        leases = [(each.message_id, each.fence) for each in held]
        assert len(bridges[0].deliveries.renew(leases, "me", LEASE)) == 5
        for bridge, delivery in zip(bridges, held, strict=True):
            assert settle(bridge, answered(delivery)).state == "done"
    for bridge, conversation in zip(bridges, conversations, strict=True):
        assert len(bridge.messages.receive(conversation, "a")) == 8
    assert bridges[0].overview.counts()["done"] == 40


def test_a_pooler_is_named_by_the_warnings_of_the_bridge(bridges) -> None:
    [found] = [each for each in bridges[0].warnings() if each.name == "pooler"]
    assert "listen_url" in found.mend


def test_what_one_transaction_has_set_is_not_left_to_the_next(bridges, server, name) -> None:
    for bridge in bridges:
        claimed(bridge)
        bridge.overview.counts()
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    for bridge in bridges:
        shown = [bridge._db.rows(f"SHOW {each}") for each in names]
        assert shown == [[("0",)]] * 3


def test_a_turn_goes_through_and_its_repetition_is_done_once(bridges) -> None:
    bridge = bridges[0]
    held = claimed(bridge)
    question = arrival(talk(bridge), "and?")
    turn = bridge.deliveries.commit_turn([question], [answered(held)], "me", {"main": 1}, LEASE)
    assert [one.state for one in turn.settled] == ["done"]
    assert [one.message_id for one in turn.claimed] == [stored(turn.stored[0]).id]
    [again] = bridge.deliveries.settle([answered(held)], "me")
    assert answers(bridge, held) == [again.answer_id]


def test_a_bridge_goes_on_after_the_server_behind_was_stopped_and_started(bridges, server) -> None:
    bridge = bridges[0]
    held = claimed(bridge)
    talk(bridge)
    server.stop()
    with pytest.raises(BridgeError):
        bridge.overview.counts()
    server.start()
    repeated(bridge.overview.counts, error=BridgeError)
    require_one_answer(bridge, held)


def test_no_news_come_through_and_it_is_said_where_they_do(bridges, server, name, pooler) -> None:
    with pytest.raises(BridgeError) as refused:
        bridges[0].watch()
    assert "listen_url" in refused.value.mend


def test_news_come_by_the_direct_line_beside_it(server, name, pooler, open_bridge) -> None:
    through = server.tcp_url(name, pooler.port)
    bridge, other = open_bridge(through, listen_url=server.tcp_url(name)), open_bridge(through)
    watch = bridge.watch()
    try:
        ask(other, talk(other), "why?")
        until(watch.read, 10)
    finally:
        watch.close()
