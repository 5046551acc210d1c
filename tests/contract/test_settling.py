"""What an outcome leads to, under which fence and of which owner."""

import json
from collections.abc import Callable

import msgspec
import pytest
from answerers import LEASE, take_over
from bridge_calls import (
    OWN,
    USED,
    answered,
    ask,
    claim,
    claim_one,
    costing,
    failed,
    released,
    renew,
    settle,
    talk,
)
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Delivery, Outcome, QueryState, Settled
from autopoll.message import write_query


def test_an_old_fence_is_refused_and_the_rest_of_the_batch_is_not(bridge: Bridge) -> None:
    conversation = talk(bridge)
    old, other = (ask(bridge, conversation, text, metadata=OWN)[0] for text in ("1", "2"))
    stale, fresh = claim(bridge)
    settle(bridge, failed(stale))
    again = claim_one(bridge)
    states = bridge.deliveries.settle(
        [answered(stale, "stale"), answered(fresh), answered(again, "again")], "me"
    )
    assert [settled.state for settled in states] == ["lost", "done", "done"]
    answer = bridge.messages.query_state(old).answer
    assert answer is not None and answer.text == "again"
    assert bridge.messages.query_state(other).state == "done"
    assert len(bridge.messages.receive(conversation, "a")) == 2


@pytest.mark.parametrize("make", [answered, failed, released])
def test_every_outcome_under_an_old_fence_changes_nothing(
    bridge: Bridge, make: Callable[[Delivery], Outcome]
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1")
    stale = claim_one(bridge)
    settle(bridge, failed(stale))
    current = claim_one(bridge)
    assert settle(bridge, make(stale)).state == "lost"
    assert not renew(bridge, stale)
    assert settle(bridge, answered(current)).state == "done"


SETTLING: dict[str, tuple[Callable[[Delivery], Outcome], str]] = {
    "answered": (answered, "done"),
    "failed": (failed, "ready"),
    "given up": (lambda delivery: failed(delivery, permanent=True), "dead"),
    "released": (released, "ready"),
}


@pytest.mark.parametrize("and_claim", [True, False])
@pytest.mark.parametrize("how", SETTLING)
def test_a_settle_that_is_repeated_says_again_what_it_led_to_and_does_nothing_twice(
    bridge: Bridge, how: str, and_claim: bool
) -> None:
    conversation = talk(bridge)
    asked, other = ask(bridge, conversation, "1", "2", metadata=OWN)
    held, kept = claim(bridge)
    make, state = SETTLING[how]
    outcome = costing(make(held), USED)
    first = settle(bridge, outcome)
    assert first.state == state
    outcomes = [answered(kept), outcome]
    fresh, again = (
        bridge.deliveries.commit_turn([], outcomes, "me", {}, LEASE).settled
        if and_claim
        else bridge.deliveries.settle(outcomes, "me")
    )
    assert (fresh.state, again.state, again.answer_id) == ("done", state, first.answer_id)
    assert again.query == bridge.messages.query_state(asked)
    answers = bridge.messages.receive(conversation, "a")
    assert len(answers) == (1 if first.answer_id is None else 2)
    assert bridge.overview.spent()["main"].output_tokens == USED.output_tokens
    assert bridge.messages.query_state(other).state == "done"


@pytest.mark.parametrize("how", SETTLING)
def test_what_an_owner_has_settled_is_lost_for_another_under_the_same_fence(
    bridge: Bridge, how: str
) -> None:
    ask(bridge, talk(bridge), "1")
    held = claim_one(bridge)
    make, state = SETTLING[how]
    assert settle(bridge, make(held)).state == state
    late = settle(bridge, answered(held), owner="another")
    assert late == Settled(message_id=held.message_id, state="lost")


def test_a_lease_that_others_have_ended_was_not_settled_by_its_owner(store: Store) -> None:
    bridge = store.open(max_attempts=1)
    take_over(bridge, "me")
    ask(bridge, talk(bridge), "1", "2", metadata=OWN)
    late, held = claim(bridge)
    settle(bridge, released(late))
    late = claim_one(bridge)
    store.clock.now += LEASE - 1
    renew(bridge, held)
    store.clock.now += 2
    assert [one.state for one in bridge.deliveries.reap()] == ["dead"]
    assert settle(bridge, costing(answered(late), USED)).state == "lost"
    assert bridge.overview.spent()["main"].output_tokens == USED.output_tokens, "spent is spent"
    take_over(bridge, "another")
    assert settle(bridge, answered(held)).state == "lost"


def test_a_settle_that_is_repeated_after_the_next_claim_is_lost(bridge: Bridge) -> None:
    ask(bridge, talk(bridge), "1")
    first = claim_one(bridge)
    settle(bridge, failed(first))
    second = claim_one(bridge)
    assert settle(bridge, failed(first)).state == "lost"
    assert settle(bridge, answered(second)).state == "done"


def test_a_fence_that_is_handed_out_once_more_is_lost_for_its_first_owner(bridge: Bridge) -> None:
    """As when a server has failed and lost the second claim, not what was settled before it."""
    ask(bridge, talk(bridge), "1")
    first = claim_one(bridge)
    settle(bridge, failed(first))
    (held,) = claim(bridge, owner="another")
    undone = msgspec.structs.replace(first, fence=held.fence)
    assert settle(bridge, answered(undone)).state == "lost"
    assert settle(bridge, answered(held), owner="another").state == "done"
    assert settle(bridge, answered(undone)).state == "lost"


@pytest.mark.parametrize("make", [answered, failed, released])
def test_every_outcome_of_another_owner_changes_nothing_under_the_same_fence(
    bridge: Bridge, make: Callable[[Delivery], Outcome]
) -> None:
    ask(bridge, talk(bridge), "1")
    held = claim_one(bridge)
    assert settle(bridge, make(held), owner="another").state == "lost"
    turned = bridge.deliveries.commit_turn([], [make(held)], "another", {"main": 9}, LEASE)
    assert ([one.state for one in turned.settled], turned.claimed) == (["lost"], [])
    assert settle(bridge, answered(held)).state == "done"


def test_another_owner_renews_nothing_under_the_same_fence(bridge: Bridge, store: Store) -> None:
    ask(bridge, talk(bridge), "1")
    held = claim_one(bridge)
    store.clock.now += LEASE
    assert not renew(bridge, held, owner="another")
    store.clock.now += 1
    assert [one.message_id for one in bridge.deliveries.reap()] == [held.message_id]


def test_a_turn_settles_and_hands_out_what_that_made_ready(bridge: Bridge) -> None:
    conversation = talk(bridge)
    first, second = ask(bridge, conversation, "first", "second")
    delivery = claim_one(bridge)
    (own,) = ask(bridge, conversation, "of its own", metadata=OWN)
    outcomes = [answered(delivery), answered(delivery, "again")]
    _, settled, taken = bridge.deliveries.commit_turn([], outcomes, "me", {"main": 10}, LEASE)
    assert [one.state for one in settled] == ["done", "lost"]
    assert [(one.message_id, one.fence) for one in taken] == [(second, 1), (own, 1)]
    assert bridge.messages.query_state(first).state == "done"
    assert bridge.deliveries.commit_turn([], [], "me", {"main": 10}, LEASE) == ([], [], [])


def test_a_turn_without_room_settles_all_the_same(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "first", "second")
    delivery = claim_one(bridge)
    _, settled, taken = bridge.deliveries.commit_turn(
        [], [answered(delivery)], "me", {"main": 0}, LEASE
    )
    assert ([one.state for one in settled], taken) == (["done"], [])
    assert [one.text for one in claim(bridge)] == ["second"]


def test_a_failure_waits_before_it_is_tried_again(bridge: Bridge, store: Store) -> None:
    ask(bridge, talk(bridge), "1")
    assert settle(bridge, failed(claim_one(bridge), 5000)).state == "ready"
    store.clock.now += 4999
    assert claim(bridge) == []
    store.clock.now += 1
    assert claim_one(bridge).attempt == 2


def test_the_last_failure_is_answered_with_the_error_and_frees_the_lane(
    store: Store,
) -> None:
    bridge = store.open(max_attempts=2)
    conversation = talk(bridge)
    asked, waiting = ask(bridge, conversation, "1", "2")
    assert settle(bridge, failed(claim_one(bridge))).state == "ready"
    settled = settle(bridge, failed(claim_one(bridge)))
    assert (settled.state, settled.answer_id is not None) == ("dead", True)
    (message,) = bridge.messages.receive(conversation, "a")
    assert message.text == "No answer after 2 attempts: it broke"
    assert json.loads(message.metadata or "")["status"] == "error"
    assert bridge.messages.query_state(asked).last_error == "it broke"
    assert claim_one(bridge).message_id == waiting


def test_a_permanent_failure_is_answered_at_once_with_the_error_itself(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1")
    assert settle(bridge, failed(claim_one(bridge), permanent=True)).state == "dead"
    assert [message.text for message in bridge.messages.receive(conversation, "a")] == ["it broke"]


def test_a_release_gives_the_attempt_back(bridge: Bridge) -> None:
    ask(bridge, talk(bridge), "1")
    for _ in range(9):
        delivery = claim_one(bridge)
        assert delivery.attempt == 1
        assert settle(bridge, released(delivery)).state == "ready"


def test_an_answer_is_stored_without_secrets_and_without_what_others_cannot_read(
    bridge: Bridge,
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "plain", '{"question": "json"}')
    for _ in range(2):
        settle(bridge, answered(claim_one(bridge), "key AKIA" + "Q" * 16 + " \ud800 \0 \U0001f600"))
    plain, wrapped = (message.text for message in bridge.messages.receive(conversation, "a"))
    assert (
        plain == json.loads(wrapped)["answer"] == "key [redacted:aws-key] \ufffd \ufffd \U0001f600"
    )


@pytest.mark.parametrize("before", ["", "\ufeff", "\xa0", "\n"])
@pytest.mark.parametrize("size", [10, 2_000_000])
def test_an_answer_names_the_question_in_json_however_long_it_is_and_begins(
    bridge: Bridge, before: str, size: int
) -> None:
    ask(bridge, talk(bridge), before + write_query("x" * size, "q-12345678"), metadata=OWN)
    settled = settle(bridge, answered(claim_one(bridge)))
    assert settled.query
    assert settled.query.answer
    assert json.loads(settled.query.answer.text)["query_id"] == "q-12345678"


def test_more_than_are_settled_at_once_are_settled_in_their_order(bridge: Bridge) -> None:
    numbers = ask(bridge, talk(bridge), *map(str, range(100)), metadata=OWN)
    given = claim(bridge, 100)
    settled = bridge.deliveries.settle([answered(each) for each in reversed(given)], "me")
    assert [each.message_id for each in settled] == numbers[::-1]
    assert {each.state for each in settled} == {"done"}


def test_what_a_settle_says_of_a_question_is_what_the_store_says(bridge: Bridge) -> None:
    conversation = talk(bridge)
    numbers = ask(bridge, conversation, "1", '{"type":"query","question":"2"}', metadata=OWN)
    first, second = claim(bridge)
    outcomes = [failed(first, 0), answered(second, "é \ud83d\ude00 '\"")]
    for settled in bridge.deliveries.settle(outcomes, "me"):
        assert settled.query == _without_time(bridge.messages.query_state(settled.message_id))
    [again] = claim(bridge)
    [settled] = bridge.deliveries.settle([failed(again, 0, permanent=True)], "me")
    assert settled.query == _without_time(bridge.messages.query_state(numbers[0]))


def _without_time(state: QueryState) -> QueryState:
    if state.answer is None:
        return state
    return msgspec.structs.replace(
        state, answer=msgspec.structs.replace(state.answer, timestamp="")
    )
