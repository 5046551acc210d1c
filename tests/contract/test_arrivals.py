"""Questions as they arrive: stored once, under a key or by their name, and leased at once."""

import msgspec
import pytest
from bridge_calls import answered, arrival, ask, ask_many, claim, key, once, stored, talk, turn
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import SURE_S, SentMessage
from autopoll.errors import KeyReused, NotFound, RateLimited, UsageError


def test_what_is_sent_twice_under_a_key_is_there_once(bridge: Bridge) -> None:
    conversation = talk(bridge)
    first = stored(once(bridge, conversation, "one", key()))
    again = stored(once(bridge, conversation, "one", key()))
    assert (again.id, again.fresh, first.fresh) == (first.id, False, True)
    assert [each.message_id for each in claim(bridge)] == [first.id]


def test_a_key_that_stands_for_another_message_is_refused(bridge: Bridge) -> None:
    conversation = talk(bridge)
    first = stored(once(bridge, conversation, "one", key()))
    refused = once(bridge, conversation, "two", key(digest=b"2"))
    assert isinstance(refused, KeyReused) and "another message" in refused.what
    other = stored(once(bridge, conversation, "two", key(digest=b"2", scope="you")))
    assert other.fresh and other.id != first.id
    assert len(bridge.messages.find(conversation=conversation)) == 2


def test_a_key_is_not_kept_when_its_message_is_refused(store: Store) -> None:
    bridge = store.open(rate_per_s=1, rate_burst=1)
    conversation = talk(bridge)
    ask(bridge, conversation, "spent")
    assert isinstance(once(bridge, conversation, "one", key()), RateLimited)
    store.clock.now += 2000
    assert stored(once(bridge, conversation, "one", key())).fresh
    store.clock.now += 1
    assert not stored(once(bridge, conversation, "one", key())).fresh, "repeating is free"


def test_a_key_is_forgotten_after_a_day(bridge: Bridge, store: Store) -> None:
    conversation = talk(bridge)
    first = stored(once(bridge, conversation, "one", key()))
    store.clock.now += 24 * 3600 * 1000 - 1
    assert not stored(once(bridge, conversation, "one", key())).fresh
    store.clock.now += 1
    assert stored(once(bridge, conversation, "one", key())).id != first.id
    store.clock.now += 25 * 3600 * 1000
    once(bridge, conversation, "two", key("other"))
    assert store.foreign("SELECT name FROM keys") == [("other",)]


def test_what_arrives_is_stored_enrolled_and_leased_in_one_commit(bridge: Bridge) -> None:
    conversation = talk(bridge)
    arrived = [arrival(conversation, f"{number}") for number in range(3)]
    committed = turn(bridge, *arrived, count=2)
    numbers = [stored(one).id for one in committed.stored]
    assert [stored(one).fresh for one in committed.stored] == [True] * 3
    assert [(one.message_id, one.text, one.fence) for one in committed.claimed] == [
        (number, one.text, 1) for number, one in zip(numbers[:2], arrived, strict=False)
    ]
    states = [bridge.messages.query_state(number).state for number in numbers]
    assert states == ["leased", "leased", "ready"]
    assert bridge.messages.receive(conversation, "b") == [], "no other reader may take it"
    settled = turn(bridge, outcomes=[answered(one) for one in committed.claimed])
    assert [one.state for one in settled.settled] == ["done", "done"]
    assert [one.message_id for one in settled.claimed] == [numbers[2]]


def test_what_arrives_waits_behind_what_was_in_the_store_before_it(bridge: Bridge) -> None:
    conversation = talk(bridge)
    (before,) = ask(bridge, conversation, "before")
    committed = turn(bridge, arrival(conversation, "after", metadata=None))
    assert [one.message_id for one in committed.claimed] == [before]
    [number] = [stored(one).id for one in committed.stored]
    assert bridge.messages.query_state(number).state == "queued"
    after = turn(bridge, outcomes=[answered(committed.claimed[0])])
    assert [one.message_id for one in after.claimed] == [number]


def test_what_arrives_overtakes_nothing_that_is_too_much_to_be_enrolled_in_one_turn(
    bridge: Bridge,
) -> None:
    others, conversation = talk(bridge), talk(bridge)
    ask_many(bridge, others, 1500)
    (before,) = ask(bridge, conversation, "before")
    committed = turn(bridge, arrival(conversation, "after", metadata=None), count=2000)
    [after] = [stored(one).id for one in committed.stored]
    claimed = [one.message_id for one in committed.claimed]
    while before not in claimed:
        assert after not in claimed
        claimed += [one.message_id for one in turn(bridge, count=2000).claimed]
    assert after not in claimed
    assert bridge.messages.query_state(after).state == "queued"


def test_each_arrival_is_refused_on_its_own_merits(store: Store) -> None:
    bridge = store.open(rate_per_s=1, rate_burst=3, max_message=2000)
    conversation = talk(bridge)
    committed = turn(
        bridge,
        arrival(conversation, "fine"),
        arrival(conversation, "x" * 3000),
        arrival("conv_0000000000000000", "to nobody"),
        arrival(conversation, "in whose name?", session="c"),
        arrival(conversation, "odd", metadata="[]"),
        arrival(conversation, "of no name", query_id=""),
        arrival(conversation, "fine too"),
    )
    kinds = [type(one) for one in committed.stored]
    assert kinds == [
        SentMessage, UsageError, NotFound, UsageError, UsageError, UsageError, SentMessage,
    ]  # fmt: skip
    assert len(committed.claimed) == len(bridge.messages.find(conversation=conversation)) == 2
    some = turn(bridge, *[arrival(conversation, f"{number}") for number in range(3)]).stored
    assert [type(one) for one in some] == [SentMessage, RateLimited, RateLimited]


def test_of_more_than_the_limit_ever_allows_at_once_so_many_are_stored(store: Store) -> None:
    bridge = store.open(rate_per_s=1, rate_burst=2)
    conversation = talk(bridge)
    some = bridge.messages.store([arrival(conversation, f"{number}") for number in range(3)])
    assert [type(one) for one in some] == [SentMessage, SentMessage, RateLimited]


def test_what_arrives_for_a_session_that_nobody_serves_waits_unread(bridge: Bridge) -> None:
    conversation = talk(bridge, shard=None)
    committed = turn(bridge, arrival(conversation, "hello?"))
    [number] = [stored(one).id for one in committed.stored]
    assert committed.claimed == []
    assert bridge.messages.query_state(number).state == "sent"
    bridge.conversations.serve(conversation, "b", "main")
    assert [one.message_id for one in turn(bridge).claimed] == [number]


def test_secrets_are_redacted_of_what_arrives(bridge: Bridge) -> None:
    conversation = talk(bridge)
    secret = "ghp_" + "a1B2" * 9
    [delivery] = turn(bridge, arrival(conversation, f"is {secret} fine?")).claimed
    assert secret not in (delivery.text or "")
    assert secret not in bridge.messages.find()[0].text


@pytest.mark.parametrize("by_poller", [True, False])
def test_a_question_whose_first_try_was_stored_is_not_stored_again(
    bridge: Bridge, by_poller: bool
) -> None:
    conversation = talk(bridge)
    asked = arrival(conversation, "once?")
    [first] = turn(bridge, asked).stored
    repeated = msgspec.structs.replace(asked, repeated=True)
    tried = [repeated, arrival(conversation, "another", repeated=True)]
    again = turn(bridge, *tried).stored if by_poller else bridge.messages.store(tried)
    assert (stored(again[0]).id, stored(again[0]).fresh) == (stored(first).id, False)
    assert stored(again[1]).fresh
    assert len(bridge.messages.find(conversation=conversation)) == 2


def test_a_question_that_arrives_late_is_looked_for_in_the_store(bridge: Bridge) -> None:
    conversation = talk(bridge)
    asked = arrival(conversation, "once?")
    [direct] = bridge.messages.store([msgspec.structs.replace(asked, repeated=True)])
    late = msgspec.structs.replace(asked, sent_at=asked.sent_at - SURE_S)
    committed = turn(bridge, late, late)
    assert [(stored(one).id, stored(one).fresh) for one in committed.stored] == [
        (stored(direct).id, False)
    ] * 2
    assert [one.message_id for one in committed.claimed] == [stored(direct).id]


def test_the_same_name_in_another_conversation_is_another_question(bridge: Bridge) -> None:
    one, other = talk(bridge), talk(bridge)
    named = {"query_id": "q-0123456789abcdef", "repeated": True}
    both = [stored(each) for each in bridge.messages.store([arrival(one, "?", **named)])]
    both += [stored(each) for each in bridge.messages.store([arrival(other, "?", **named)])]
    assert [each.fresh for each in both] == [True, True]
