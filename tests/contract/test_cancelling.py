"""Questions that are cancelled: one answer each, in order, whatever state they are in."""

import random

import pytest
from answerers import LEASE, take_over
from bridge_calls import OWN, answered, ask, claim, claim_one, failed, renew, settle, talk
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.sql import settlement
from autopoll.message import read_answer

BY = "Cancelled by ann@here at 2026-03-01T10:00:00Z"
CANARY = '{"lane": "canary", "canary": true}'


def cancel(bridge: Bridge, *numbers: int, words: str = BY) -> list[str]:
    done = bridge.deliveries.cancel(numbers, words)
    assert [each.message_id for each in done] == [*numbers]
    return [each.outcome for each in done]


def answer_of(bridge: Bridge, number: int) -> str | None:
    state = bridge.messages.query_state(number)
    if state.answer is None:
        return None
    answer = read_answer(state.answer.text, state.answer.metadata)
    assert answer.error and state.state == "dead"
    return answer.text


def answers(bridge: Bridge, conversation: str) -> list[str]:
    found = bridge.messages.find(conversation=conversation, session="a")
    return [read_answer(each.text, each.metadata).text for each in found]


def test_what_was_sent_only_is_answered_at_once_and_never_claimed(bridge: Bridge) -> None:
    conversation = talk(bridge)
    first, second = ask(bridge, conversation, "1", "2")
    assert cancel(bridge, first) == ["cancelled"]
    assert answer_of(bridge, first) == BY
    assert claim_one(bridge).message_id == second


@pytest.mark.parametrize("metadata", [None, OWN, CANARY])
def test_what_is_ready_is_answered_at_once_and_the_next_of_its_conversation_goes_on(
    bridge: Bridge, metadata: str | None
) -> None:
    conversation = talk(bridge)
    first, second = ask(bridge, conversation, "1", "2", metadata=metadata)
    bridge.deliveries.claim("me", {}, LEASE)
    assert cancel(bridge, first) == ["cancelled"]
    assert answers(bridge, conversation) == [BY]
    assert [each.message_id for each in claim(bridge)] == [second]
    assert cancel(bridge, first) == ["settled"], "nothing more happens"
    assert answers(bridge, conversation) == [BY]


def test_what_is_under_way_is_lost_to_its_owner_and_has_one_answer(bridge: Bridge) -> None:
    conversation = talk(bridge)
    first, second = ask(bridge, conversation, "1", "2")
    held = claim_one(bridge)
    leases = [(held.message_id, held.fence)]
    assert bridge.deliveries.held(leases, "me") == {first}
    assert bridge.deliveries.held(leases, "you") == set()
    assert bridge.deliveries.held([(first, held.fence + 1)], "me") == set()
    assert cancel(bridge, first) == ["cancelled"]
    assert bridge.deliveries.held(leases, "me") == set()
    assert not renew(bridge, held)
    for late in (answered(held), failed(held), failed(held, permanent=True)):
        assert settle(bridge, late).state == "lost"
    assert answers(bridge, conversation) == [BY]
    assert claim_one(bridge).message_id == second


def test_what_waits_behind_others_is_answered_in_its_turn_and_never_claimed(bridge: Bridge) -> None:
    conversation = talk(bridge)
    first, second, third, fourth = ask(bridge, conversation, "1", "2", "3", "4")
    held = claim_one(bridge)
    assert cancel(bridge, second, third) == ["in turn", "in turn"]
    assert cancel(bridge, third, words="by another") == ["marked before"]
    assert answers(bridge, conversation) == []
    assert settle(bridge, failed(held)).state == "ready"
    again = claim_one(bridge)
    assert again.message_id == first
    assert settle(bridge, answered(again)).state == "done"
    assert answers(bridge, conversation) == ["yes", BY, BY]
    last = claim_one(bridge)
    assert last.message_id == fourth and last.attempt == 1
    settle(bridge, answered(last, "last"))
    assert answers(bridge, conversation) == ["yes", BY, BY, "last"]


def test_a_whole_conversation_is_cancelled_in_its_order(bridge: Bridge) -> None:
    conversation = talk(bridge)
    numbers = ask(bridge, conversation, *map(str, range(6)))
    claim_one(bridge)
    assert cancel(bridge, *reversed(numbers)) == ["cancelled"] * 6
    found = bridge.messages.query_states(numbers)
    assert sorted(each.answer.id for each in found if each.answer) == [
        each.answer.id for each in sorted(found, key=lambda each: each.message_id) if each.answer
    ]
    assert len(answers(bridge, conversation)) == 6 and claim(bridge) == []


def test_the_end_of_a_lease_by_its_expiry_or_a_takeover_goes_on_to_what_was_cancelled(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    first, second = ask(bridge, conversation, "1", "2")
    for _ in range(5):
        claim_one(bridge)
        assert cancel(bridge, second) in (["in turn"], ["marked before"])
        store.clock.now += LEASE + 1
        bridge.deliveries.reap()
    assert answers(bridge, conversation)[0].startswith("No answer after 5 attempts")
    assert answers(bridge, conversation)[1:] == [BY]
    assert bridge.messages.query_state(first).state == "dead"


def test_a_head_that_an_earlier_version_has_promoted_is_ended_by_the_reap(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    first, second = ask(bridge, conversation, "1", "2")
    held = claim_one(bridge)
    cancel(bridge, second)
    store.foreign("DELETE FROM deliveries WHERE message_id=?", first)
    store.foreign("UPDATE deliveries SET state='ready' WHERE message_id=?", second)
    assert claim(bridge) == []
    store.clock.now -= 10 * LEASE
    assert claim(bridge) == [], "nor after the clock was set back"
    [ended] = bridge.deliveries.reap()
    assert (ended.message_id, ended.state) == (second, "dead")
    assert settle(bridge, answered(held)).state == "lost"


def test_what_is_no_open_question_is_named_and_left_as_it_is(bridge: Bridge) -> None:
    served, unserved = talk(bridge), talk(bridge, shard=None)
    [done] = ask(bridge, served, "1")
    settle(bridge, answered(claim_one(bridge)))
    [never] = ask(bridge, unserved, "2")
    [told] = ask(bridge, served, "x", metadata='{"type": "response"}')
    before = bridge.messages.find()
    assert cancel(bridge, done, never, told, 10**15, done) == [
        "settled", "unserved", "unserved", "unknown", "settled",
    ]  # fmt: skip
    assert bridge.messages.find() == before
    assert bridge.deliveries.cancel([], BY) == []


def test_a_cancelled_question_is_no_dead_letter_and_counts_as_no_answer(bridge: Bridge) -> None:
    conversation = talk(bridge)
    [number] = ask(bridge, conversation, "1")
    cancel(bridge, number)
    assert bridge.overview.dead_letters() == []
    counts = bridge.overview.counts()
    assert (counts["dead"], counts["done"]) == (0, 0) and bridge.overview.latencies_ms() == []
    assert bridge.overview.finished(0, 10) == []
    [line] = bridge.overview.audit_entries(action="query_cancelled")
    assert BY in line.details and f'"message_id":{number}' in line.details.replace(" ", "")
    [canary] = ask(bridge, conversation, "2", metadata=CANARY)
    cancel(bridge, canary)
    assert len(bridge.overview.audit_entries(action="query_cancelled")) == 1


def test_the_same_number_twice_is_one_cancellation(bridge: Bridge) -> None:
    [number] = ask(bridge, talk(bridge), "1")
    assert cancel(bridge, number, number) == ["cancelled", "cancelled"]
    assert len(bridge.messages.find(session="a")) == 1


@pytest.mark.parametrize("seed", range(8))
def test_under_random_ways_each_question_has_one_answer_in_order(
    bridge: Bridge, store: Store, seed: int
) -> None:
    fate = random.Random(seed)
    take_over(bridge)
    conversation = talk(bridge)
    other = store.open()
    asked: list[int] = []
    held = []
    for _ in range(120):
        match fate.choice(("ask", "claim", "settle", "cancel", "cancel other", "late")):
            case "ask" if len(asked) < 40:
                asked += ask(bridge, conversation, "x", metadata=fate.choice([None, None, OWN]))
            case "claim":
                held += claim(bridge, fate.randint(1, 3))
            case "settle" if held:
                one = held.pop(fate.randrange(len(held)))
                bridge.deliveries.settle([fate.choice([answered, failed])(one)], "me")
            case "cancel" | "cancel other" as who if asked:
                some = fate.sample(asked, min(len(asked), fate.randint(1, 3)))
                (bridge if who == "cancel" else other).deliveries.cancel(some, BY)
            case "late":
                store.clock.now += 100
    while held or (held := claim(bridge)):
        bridge.deliveries.settle([answered(each) for each in held], "me")
        held = []
    states = bridge.messages.query_states(asked)
    assert all(each.settled_at is not None and each.answer for each in states)
    assert len(bridge.messages.find(session="a", limit=1000)) == len(asked)
    own = {each.id for each in bridge.messages.find(limit=1000) if each.metadata == OWN}
    in_lane = sorted(
        (each for each in states if each.message_id not in own), key=lambda e: e.message_id
    )
    order = [each.answer.id for each in in_lane if each.answer]
    assert order == sorted(order)


def test_a_long_row_of_cancelled_ones_ends_bit_by_bit_in_order_and_holds_what_follows(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "MOST_CANCELLED", 2)
    conversation = talk(bridge)
    numbers = ask(bridge, conversation, *"1234567")
    first = claim_one(bridge)
    assert cancel(bridge, *numbers[1:6]) == ["in turn"] * 5
    settle(bridge, answered(first))
    assert len(answers(bridge, conversation)) == 3
    assert claim(bridge) == [], "the last waits for all that are before it"
    assert [each.message_id for each in bridge.deliveries.reap()] == numbers[3:5]
    assert [each.message_id for each in bridge.deliveries.reap()] == numbers[5:6]
    assert bridge.deliveries.reap() == []
    assert answers(bridge, conversation)[1:] == [BY] * 5
    assert claim_one(bridge).message_id == numbers[6]


def test_a_cancelled_one_that_the_store_refuses_harms_nothing_before_it_and_ends_later(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    first, second, third = ask(bridge, conversation, "1", "2", "3")
    held = claim_one(bridge)
    cancel(bridge, second, words="poison")
    with store.refusing("messages", "new.message LIKE '%poison%'"):
        assert settle(bridge, answered(held)).state == "done"
        assert bridge.messages.query_state(first).state == "done"
        assert bridge.messages.query_state(second).answer is None
        assert bridge.deliveries.reap() == []
        assert bridge.deliveries.claim("me", {"main": 9}, LEASE) == []
    assert [each.message_id for each in bridge.deliveries.reap()] == [second]
    assert answer_of(bridge, second) == "poison"
    assert claim_one(bridge).message_id == third
