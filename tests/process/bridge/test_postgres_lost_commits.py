"""A commit of which nobody knows whether it was done: it was, and the server's word for it is lost.

What is repeated then has been done once.
"""

import pytest
from answerers import LEASE
from bridge_calls import USED, answered, arrival, ask, claim_one, costing, key, settle, stored, talk
from postgres_calls import answers, claimed, repeated
from prepared_home import prepared_home

from autopoll.client.client import Client
from autopoll.errors import BridgeUnavailable
from autopoll.home.config import load


@pytest.fixture
def bridge(server, name, proxy, open_bridge):
    return open_bridge(server.tcp_url(name, proxy.port))


@pytest.fixture
def client(bridge, tmp_path) -> Client:
    home = prepared_home(tmp_path, '[shards.main]\nbackend = "echo"\n')
    return Client(home, load(home, {}), bridge)


def lose_commit(proxy, call) -> None:
    """Make a call of which the commit is done and its reply is lost."""
    proxy.cut_next_commit()
    with pytest.raises(BridgeUnavailable):
        call()
    assert proxy.cut_a_commit.is_set()


def test_a_settle_that_is_repeated_says_what_came_of_the_first(proxy, bridge) -> None:
    held = claimed(bridge)
    outcome = costing(answered(held), USED)
    lose_commit(proxy, lambda: settle(bridge, outcome))
    settled = settle(bridge, outcome)
    assert settled.state == "done"
    assert answers(bridge, held) == [settled.answer_id]
    assert bridge.overview.spent()["main"].answers == 1


def test_a_question_that_is_stored_again_is_stored_once(proxy, bridge) -> None:
    conversation = talk(bridge)
    question = arrival(conversation, "why?")
    lose_commit(proxy, lambda: bridge.messages.store([question]))
    question = arrival(conversation, "why?", query_id=question.query_id, repeated=True)
    [again] = bridge.messages.store([question])
    assert not stored(again).fresh
    assert [each.id for each in bridge.messages.find(conversation=conversation)] == [again.id]


def test_a_question_under_a_key_is_stored_once(proxy, bridge) -> None:
    conversation = talk(bridge)
    question = arrival(conversation, "why?", key=key())
    lose_commit(proxy, lambda: bridge.messages.store([question]))
    [again] = bridge.messages.store([question])
    assert not stored(again).fresh
    assert [each.id for each in bridge.messages.find(conversation=conversation)] == [again.id]


def test_a_turn_that_is_repeated_stores_and_answers_once(proxy, bridge) -> None:
    held = claimed(bridge)
    outcome, question = answered(held), arrival(held.conversation, "and then?", key=key())

    def turn():
        return bridge.deliveries.commit_turn([question], [outcome], "me", {"main": 1}, LEASE)

    lose_commit(proxy, turn)
    done = turn()
    [settled], [again] = done.settled, done.stored
    assert settled.state == "done"
    assert answers(bridge, held) == [settled.answer_id]
    assert not stored(again).fresh
    # The claim of the first is not known to its owner, who has it released.
    assert done.claimed == []
    assert bridge.deliveries.release_unconfirmed("me", []) == 1
    assert claim_one(bridge).message_id == stored(again).id


def test_a_claim_that_its_owner_does_not_know_of_is_released_and_costs_no_attempt(
    proxy, bridge
) -> None:
    held = claimed(bridge)
    conversation = talk(bridge)
    ask(bridge, conversation, "lost?")
    lose_commit(proxy, lambda: bridge.deliveries.claim("me", {"main": 1}, LEASE))
    assert bridge.overview.in_flight() == {"main": 2}
    known = [(held.message_id, held.fence)]
    assert bridge.deliveries.release_unconfirmed("me", known) == 1
    again = claim_one(bridge)
    assert (again.conversation, again.attempt, again.fence) == (conversation, 1, 2)
    assert bridge.deliveries.renew(known, "me", LEASE) == {held.message_id}


def test_a_conversation_whose_creation_was_lost_is_seen_as_it_is(proxy, bridge) -> None:
    lose_commit(proxy, lambda: talk(bridge, None))
    assert len(bridge.conversations.all()) == 1


def test_a_sender_has_its_message_stored_once_and_learns_its_number(proxy, client) -> None:
    conversation = talk(client.bridge)
    for _ in range(2):  # the same text twice is two messages
        proxy.cut_next_commit()
        number = client.send(conversation, "a", "as it is", '{"mood":1}')
        assert proxy.cut_a_commit.is_set()
        last = client.bridge.messages.find(conversation=conversation)[-1]
        assert (last.id, last.text, last.metadata) == (number, "as it is", '{"mood":1}')
    assert len(client.bridge.messages.find(conversation=conversation)) == 2


def test_an_asker_without_a_poller_has_its_question_stored_once(proxy, client) -> None:
    conversation = talk(client.bridge)
    question = client.arrival("why?", conversation, "a")
    proxy.cut_next_commit()
    number = stored(client.store_without_poller(question)).id
    assert proxy.cut_a_commit.is_set()
    assert [each.id for each in client.bridge.messages.find(conversation=conversation)] == [number]


def test_who_cannot_know_whether_it_was_stored_is_told_how_to_look(proxy, client) -> None:
    conversation = talk(client.bridge)
    for call, look in (
        (lambda: client.send(conversation, "a", "once"), f"messages --conversation {conversation}"),
        (lambda: client.converse("a", "b"), "conversations list"),
    ):
        client.bridge.overview.counts()  # connected
        proxy.refuse()
        proxy.cut_next_commit()
        with pytest.raises(BridgeUnavailable, match="all the same") as unknown:
            call()
        assert unknown.value.mend == f"Before you repeat it, look: autopoll {look}"
        proxy.mend()
        repeated(client.bridge.overview.counts)
    assert len(client.bridge.messages.find(conversation=conversation)) == 1
