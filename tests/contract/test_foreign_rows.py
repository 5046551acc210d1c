"""Whatever foreign programs leave in the tables is answered, or passed over."""

import json
from collections import Counter

import pytest
from answerers import LEASE
from bridge_calls import answered, ask, claim, claim_one, failed, settle, talk
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.errors import NotFound


def test_whatever_stands_in_a_foreign_row_it_is_enrolled_and_settled_beside_a_good_one(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    insert = "INSERT INTO messages(conversation_id,to_session,message,{}) VALUES(?,'b','why?',{})"
    for column in ("metadata", "from_session", "timestamp"):
        for odd in store.odd_values:
            store.foreign(insert.format(column, odd), conversation)
    for odd in store.odd_values:
        store.foreign(
            f"INSERT INTO messages(conversation_id,to_session,message) VALUES(?,'b',{odd})",
            conversation,
        )
    (good,) = ask(bridge, conversation, "good")
    settled = 0
    while taken := claim(bridge):
        settled += len(
            bridge.deliveries.settle([answered(each, "so \ud83d") for each in taken], "me")
        )
    assert settled == 4 * len(store.odd_values) + 1
    answer = bridge.messages.query_state(good).answer
    assert answer and answer.text == "so \ufffd"


def test_a_lane_without_a_head_is_promoted(bridge: Bridge, store: Store) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2")
    bridge.deliveries.claim("me", {}, LEASE)
    store.foreign("DELETE FROM deliveries WHERE state='ready'")
    assert claim(bridge) == []
    bridge.deliveries.reap()
    assert claim_one(bridge).text == "2"


def test_whatever_a_foreign_program_wrote_is_delivered_and_answered(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    columns = "conversation_id,from_session,to_session,message,metadata,timestamp"
    for odd, text in store.odd_texts:
        store.foreign(
            f"INSERT INTO messages({columns}) VALUES(?,'a','b',{odd},{odd},{odd})", conversation
        )
        delivery = claim_one(bridge)
        assert delivery.text == text, odd
        assert bridge.messages.find()[-1].text == text, odd
        settle(bridge, answered(delivery))
        assert bridge.messages.query_state(delivery.message_id).state == "done"


def test_foreign_rows_of_any_shape_hurt_nobody(bridge: Bridge, store: Store) -> None:
    conversation = talk(bridge)
    rows = store.odd_rows(conversation)
    for table, row in rows:
        marks = ",".join("?" * len(row))
        store.foreign(f"INSERT INTO {table}({','.join(row)}) VALUES({marks})", *row.values())
    store.foreign(
        "INSERT INTO messages(conversation_id,to_session,message) VALUES(?,'b','from nobody')",
        conversation,
    )
    delivery = claim_one(bridge)
    assert delivery.text == "from nobody"
    settle(bridge, answered(delivery))
    answer = bridge.messages.query_state(delivery.message_id).answer
    assert answer is not None and answer.recipient == "a"
    written = Counter(table for table, _ in rows)
    assert len(bridge.messages.find()) == written["messages"] + 2
    assert len(bridge.conversations.all()) == written["conversations"] + 1


def test_a_message_deleted_before_its_answer_leaves_no_lane_stuck(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    first, second = ask(bridge, conversation, "1", "2")
    bridge.deliveries.claim("me", {}, LEASE)
    store.foreign("DELETE FROM messages WHERE id=?", first)
    delivery = claim_one(bridge)
    assert (delivery.message_id, delivery.text) == (first, "")
    assert settle(bridge, failed(delivery, permanent=True)).state == "dead"
    assert claim_one(bridge).message_id == second
    with pytest.raises(NotFound):
        bridge.messages.query_state(first)
    with pytest.raises(NotFound):
        bridge.overview.retry_dead(first)


@pytest.mark.long
def test_a_message_over_the_limit_is_not_loaded_but_answered_in_its_form(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    insert = (
        "INSERT INTO messages(conversation_id,from_session,to_session,message) VALUES(?,'a','b',?)"
    )
    huge = "x" * 10_000_000
    for question in (
        '{"query_id": {"deep": [7]}, "question": "' + huge + '"}',
        '{"question": "' + huge + '"}',
        huge,
        '{"broken": ' + huge,
    ):
        store.foreign(insert, conversation, question)
        delivery = claim_one(bridge)
        assert delivery.text is None
        settle(bridge, failed(delivery, permanent=True))
    store.foreign(insert, conversation, '{"type": "response", "answer": "' + huge + '"}')
    assert claim(bridge) == []
    named, nameless, plain, broken = (
        message.text for message in bridge.messages.receive(conversation, "a")
    )
    assert json.loads(named)["query_id"] == {"deep": [7]}
    assert json.loads(nameless)["query_id"] is None
    assert json.loads(named)["answer"] == plain == "it broke"
    assert json.loads(broken)["query_id"] is None


def test_metadata_that_is_no_envelope_says_nothing(bridge: Bridge, store: Store) -> None:
    conversation = talk(bridge)
    for metadata in ("[1]", "nonsense", '{"lane": 5}', '{"a":' * 90_000, store.unreadable):
        store.foreign(
            "INSERT INTO messages(conversation_id,from_session,to_session,message,metadata)"
            " VALUES(?,'a','b','q',?)",
            *(conversation, metadata),
        )
        delivery = claim_one(bridge)
        assert delivery.lane == f"{conversation}/b"
        settle(bridge, answered(delivery))
