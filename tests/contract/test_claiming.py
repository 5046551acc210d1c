"""What is claimed, in which order, and of which messages."""

import json

import pytest
from answerers import LEASE
from bridge_calls import OWN, answered, ask, ask_many, claim, claim_one, failed, settle, talk
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge


def test_a_question_is_taken_once_and_answered_once(bridge: Bridge) -> None:
    conversation = talk(bridge)
    (asked,) = ask(bridge, conversation, "why?")
    assert bridge.messages.query_state(asked).state == "sent"
    delivery = claim_one(bridge)
    assert (delivery.text, delivery.attempt, delivery.session) == ("why?", 1, "b")
    assert claim(bridge) == []
    settled = settle(bridge, answered(delivery, "because"))
    assert settled.state == "done"
    state = bridge.messages.query_state(asked)
    assert (state.state, state.attempts, state.shard) == ("done", 1, "main")
    assert state.answer is not None
    assert (state.answer.id, state.answer.text) == (settled.answer_id, "because")
    assert (state.answer.sender, state.answer.recipient) == ("b", "a")
    assert json.loads(state.answer.metadata or "")["in_reply_to"] == asked
    assert [message.text for message in bridge.messages.receive(conversation, "a")] == ["because"]
    assert bridge.messages.receive(conversation, "a") == []


def test_a_json_question_gets_a_json_answer_with_its_query_id(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, '{"type":"query","query_id":"q7","question":"why?"}')
    settle(bridge, answered(claim_one(bridge)))
    (message,) = bridge.messages.receive(conversation, "a")
    assert json.loads(message.text)["query_id"] == "q7"


def test_only_the_head_of_a_conversation_is_handed_out(bridge: Bridge) -> None:
    conversation = talk(bridge)
    first, second, third = ask(bridge, conversation, "1", "2", "3")
    delivery = claim_one(bridge)
    assert delivery.message_id == first
    assert [bridge.messages.query_state(asked).state for asked in (second, third)] == [
        "queued",
        "queued",
    ]
    settle(bridge, failed(delivery))
    delivery = claim_one(bridge)
    assert (delivery.message_id, delivery.attempt) == (first, 2)
    settle(bridge, answered(delivery))
    assert claim_one(bridge).message_id == second


def test_independent_questions_do_not_wait_for_each_other(bridge: Bridge) -> None:
    conversation = talk(bridge)
    asked = ask(bridge, conversation, "1", "2", "3", metadata=OWN)
    assert [delivery.message_id for delivery in claim(bridge)] == asked


def test_no_more_is_claimed_than_wanted_and_only_for_the_shard(bridge: Bridge) -> None:
    one, two = talk(bridge, "one"), talk(bridge, "two")
    ask(bridge, one, "1", "2", "3", metadata=OWN)
    ask(bridge, two, "4", metadata=OWN)
    taken = bridge.deliveries.claim("me", {"one": 2, "two": 0, "none": 9}, LEASE)
    assert [(delivery.shard, delivery.text) for delivery in taken] == [("one", "1"), ("one", "2")]
    assert bridge.overview.in_flight() == {"one": 2}


def test_what_is_new_takes_the_room_that_older_questions_leave(bridge: Bridge) -> None:
    conversation = talk(bridge)
    older = ask(bridge, conversation, *"ab", metadata=OWN)
    assert claim(bridge, 0) == []
    newer = ask(bridge, conversation, *"cde", metadata=OWN)
    assert [one.message_id for one in claim(bridge, 3)] == [*older, newer[0]]
    assert [one.message_id for one in claim(bridge, 3)] == newer[1:]


def test_messages_are_enrolled_in_order_even_when_nothing_is_wanted(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2")
    assert bridge.deliveries.claim("me", {}, LEASE) == []
    assert bridge.overview.counts() == {"queued": 1, "ready": 1, "leased": 0, "done": 0, "dead": 0}


def test_a_message_sent_before_its_session_was_served_is_answered(bridge: Bridge) -> None:
    conversation = talk(bridge, None)
    ask(bridge, conversation, "early")
    assert claim(bridge) == []
    other = talk(bridge)
    ask(bridge, other, "late")
    settle(bridge, answered(claim_one(bridge)))
    bridge.conversations.serve(conversation, "b", "main")
    assert claim_one(bridge).text == "early"


def test_a_session_that_is_no_longer_served_still_gets_what_was_enrolled(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "enrolled")
    bridge.deliveries.claim("me", {}, LEASE)
    bridge.conversations.unserve(conversation, "b")
    ask(bridge, conversation, "too late")
    settle(bridge, answered(claim_one(bridge)))
    assert claim(bridge) == []
    assert bridge.conversations.routes() == {}


def test_a_route_to_another_shard_takes_along_what_is_not_begun(bridge: Bridge) -> None:
    conversation = talk(bridge, "old")
    ask(bridge, conversation, "1", "2")
    (begun,) = claim(bridge, shard="old")
    bridge.conversations.serve(conversation, "b", "new")
    settle(bridge, answered(begun))
    assert claim(bridge, shard="old") == []
    (moved,) = claim(bridge, shard="new")
    assert (moved.text, moved.shard) == ("2", "new")
    assert bridge.conversations.routes() == {(conversation, "b"): "new"}


def test_who_answers_a_session_is_found_by_itself(bridge: Bridge) -> None:
    served, plain = talk(bridge, "other"), talk(bridge, shard=None)
    assert (
        bridge.conversations.shard_of(served, "b")
        == bridge.conversations.routes()[served, "b"]
        == "other"
    )
    assert (
        bridge.conversations.shard_of(served, "a")
        is bridge.conversations.shard_of(plain, "b")
        is None
    )
    assert bridge.conversations.shard_of("nowhere", "b") is None


@pytest.mark.parametrize("kind", ["response", "status", "heartbeat"])
def test_what_wants_no_answer_stays_unread_for_its_reader(bridge: Bridge, kind: str) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, json.dumps({"type": kind}))
    ask(bridge, conversation, "text", metadata=json.dumps({"type": kind}))
    assert claim(bridge) == []
    assert len(bridge.messages.find(conversation=conversation, unread=True)) == 2
    ask(bridge, conversation, "a question")
    assert claim_one(bridge).text == "a question"


def test_the_answer_of_one_served_session_is_no_question_for_the_other(bridge: Bridge) -> None:
    conversation = talk(bridge)
    bridge.conversations.serve(conversation, "a", "main")
    ask(bridge, conversation, "ping")
    settle(bridge, answered(claim_one(bridge), "pong"))
    assert claim(bridge) == []


def test_a_message_set_back_to_unread_is_not_answered_twice(bridge: Bridge, store: Store) -> None:
    conversation = talk(bridge)
    (asked,) = ask(bridge, conversation, "once")
    settle(bridge, answered(claim_one(bridge)))
    store.foreign("UPDATE messages SET read=0 WHERE id=?", asked)
    store.clock.now += 61_000
    assert claim(bridge) == []


def test_the_sweep_finds_a_message_whose_number_is_not_new(bridge: Bridge, store: Store) -> None:
    conversation = talk(bridge)
    (first, second) = ask(bridge, conversation, "1", "2")
    bridge.messages.receive(conversation, "b")
    assert claim(bridge) == []
    store.foreign("UPDATE messages SET read=0 WHERE id=?", first)
    store.clock.now += 61_000
    assert claim_one(bridge).message_id == first
    assert bridge.messages.query_state(second).state == "sent"


def test_more_than_one_batch_is_enrolled_in_order(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ids = ask_many(bridge, conversation, 2500)
    for expected in (1000, 2000, 2500):
        bridge.deliveries.claim("me", {}, LEASE)
        assert sum(bridge.overview.counts().values()) == expected
    assert claim_one(bridge).message_id == ids[0]


def test_duplicates_are_two_messages(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "same", "same")
    settle(bridge, answered(claim_one(bridge)))
    settle(bridge, answered(claim_one(bridge)))
    assert len(bridge.messages.receive(conversation, "a")) == 2
