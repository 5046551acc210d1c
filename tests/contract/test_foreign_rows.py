"""Whatever foreign programs leave in the tables is answered, or passed over."""

import json

import pytest
from answerers import LEASE
from bridge_calls import answered, ask, claim, claim_one, failed, settle, talk
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.errors import NotFound

ODD = ["NULL", "x'ff00fe'", "x''", "12345", "1.5", "9223372036854775807", "'{'", "x'7b7d'",
       "CAST(x'7b227175657374696f6e223a22ff227d' AS TEXT)", "x'efbbbf7b7d'", "char(0)||'a'",
       "'{\"question\":\"q\",\"query_id\":' || printf('%.*c', 5000, '9') || '}'",
       "'{\"question\":\"q\",\"query_id\":1e400}'", "printf('%.*c', 60000, '[')"]  # fmt: skip


def test_whatever_stands_in_a_foreign_row_it_is_enrolled_and_settled_beside_a_good_one(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    insert = "INSERT INTO messages(conversation_id,to_session,message,{}) VALUES(?,'b','why?',{})"
    for column in ("metadata", "from_session", "timestamp"):
        for odd in ODD:
            store.foreign(insert.format(column, odd), conversation)
    for odd in ODD:
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
    assert settled == 4 * len(ODD) + 1
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


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"nul\0inside", "nul\0inside"),
        (b"\xed\xa0\x80 lone", "\ufffd\ufffd\ufffd lone"),
        ("\U0001f600 four bytes".encode(), "\U0001f600 four bytes"),
        (b"", ""),
        (None, ""),
    ],
)
@pytest.mark.parametrize("kind", ["TEXT", "BLOB"])
def test_whatever_a_foreign_program_wrote_is_delivered_and_answered(
    bridge: Bridge, store: Store, value: bytes | None, text: str, kind: str
) -> None:
    conversation = talk(bridge)
    store.foreign(
        "INSERT INTO messages(conversation_id,from_session,to_session,message,metadata,timestamp)"
        f" VALUES(?,'a','b',CAST(? AS {kind}),CAST(? AS {kind}),CAST(? AS {kind}))",
        *(conversation, value, value, value),
    )
    delivery = claim_one(bridge)
    assert delivery.text == text
    assert bridge.messages.find()[-1].text == text
    settle(bridge, answered(delivery))
    assert bridge.messages.query_state(delivery.message_id).state == "done"


def test_foreign_rows_of_any_shape_hurt_nobody(bridge: Bridge, store: Store) -> None:
    conversation = talk(bridge)
    odd = "INSERT INTO messages(conversation_id,from_session,to_session,message) VALUES(?,?,?,?)"
    store.foreign(odd, conversation, "x", "zz", "for nobody")
    store.foreign(odd, None, None, None, None)
    store.foreign(odd, b"\xff", b"\xff", b"\xff", b"\xff")
    store.foreign(odd, conversation, None, "b", "from nobody")
    store.foreign(odd, "conv_gone", "a", "b", "in no conversation")
    store.foreign("INSERT INTO conversations(id) VALUES(NULL)")
    store.foreign("INSERT INTO conversations VALUES(?,?,?,?,?,?,?)", *[b"\xff"] * 7)
    delivery = claim_one(bridge)
    assert delivery.text == "from nobody"
    settle(bridge, answered(delivery))
    answer = bridge.messages.query_state(delivery.message_id).answer
    assert answer is not None and answer.recipient == "a"
    assert len(bridge.messages.find()) == 6
    assert len(bridge.conversations.all()) == 3


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


@pytest.mark.parametrize(
    ("head", "query_id"),
    [('{"query_id": {"deep": [7]}, "question": "', {"deep": [7]}), ('{"question": "', None)],
)
def test_a_message_of_20_mb_is_not_loaded_but_answered_in_its_form(
    bridge: Bridge, store: Store, head: str, query_id: object
) -> None:
    conversation = talk(bridge)
    insert = (
        "INSERT INTO messages(conversation_id,from_session,to_session,message) VALUES(?,'a','b',?)"
    )
    huge = "x" * 20_000_000
    store.foreign(insert, conversation, head + huge + '"}')
    store.foreign(insert, conversation, huge)
    store.foreign(insert, conversation, '{"broken": ' + huge)
    store.foreign(insert, conversation, '{"type": "response", "answer": "' + huge + '"}')
    for _ in range(3):
        delivery = claim_one(bridge)
        assert delivery.text is None
        settle(bridge, failed(delivery, permanent=True))
    assert claim(bridge) == []
    wrapped, plain, broken = (
        message.text for message in bridge.messages.receive(conversation, "a")
    )
    assert json.loads(wrapped)["query_id"] == query_id
    assert json.loads(wrapped)["answer"] == plain == "it broke"
    assert json.loads(broken)["query_id"] is None


def test_metadata_that_is_no_envelope_says_nothing(bridge: Bridge, store: Store) -> None:
    conversation = talk(bridge)
    for metadata in ("[1]", "nonsense", '{"lane": 5}', '{"a":' * 90_000, b"\xff\xfe"):
        store.foreign(
            "INSERT INTO messages(conversation_id,from_session,to_session,message,metadata)"
            " VALUES(?,'a','b','q',?)",
            *(conversation, metadata),
        )
        delivery = claim_one(bridge)
        assert delivery.lane == f"{conversation}/b"
        settle(bridge, answered(delivery))
