"""A commit of which nobody knows whether it was done: it was, and the server's word for it is lost.

What is repeated then has been done once.
"""

import pytest
from answerers import LEASE
from bridge_calls import USED, answered, arrival, claim_one, costing, key, settle, stored, talk
from postgres_calls import answers, claimed

from autopoll.errors import BridgeUnavailable


@pytest.fixture
def bridge(server, name, proxy, open_bridge):
    return open_bridge(server.tcp_url(name, proxy.port))


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
    bridge.messages.send(conversation, "a", ["lost?"], [None])
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
