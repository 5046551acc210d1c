"""A row that the store does not take harms nothing but itself."""

import msgspec
import pytest
from answerers import LEASE
from bridge_calls import (
    OWN,
    USED,
    answered,
    arrival,
    ask,
    claim,
    claim_one,
    costing,
    settle,
    talk,
    turn,
)
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import SentMessage
from autopoll.errors import RowRefused
from autopoll.request import Usage


@pytest.mark.parametrize("and_claim", [True, False])
def test_an_answer_that_the_store_refuses_becomes_an_error_and_holds_up_no_other(
    bridge: Bridge, store: Store, and_claim: bool
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2", "3", metadata=OWN)
    (later,) = ask(bridge, conversation, "4")
    one, two, three, _ = taken = claim(bridge)
    outcomes = [answered(one), answered(two, "poison"), answered(three), answered(taken[3])]
    outcomes[1] = msgspec.structs.replace(outcomes[1], usage=Usage(output_tokens=7))
    with store.refusing("messages", "new.message LIKE '%poison%'"):
        settled = (
            bridge.deliveries.commit_turn([], outcomes, "me", {}, LEASE).settled
            if and_claim
            else bridge.deliveries.settle(outcomes, "me")
        )
    assert [each.state for each in settled] == ["done", "dead", "done", "done"]
    answer = bridge.messages.query_state(two.message_id).answer
    assert answer and answer.text == "the answer cannot be stored in the bridge"
    assert bridge.messages.query_state(later).state == "done"


def test_what_cannot_be_settled_at_all_stays_leased_and_holds_up_no_other(
    store: Store,
) -> None:
    bridge = store.open(max_attempts=1)
    cursed, blessed = talk(bridge), talk(bridge)
    ask(bridge, cursed, "1")
    ask(bridge, blessed, "2", "3")
    one, two = claim(bridge)
    with store.refusing("messages", f"new.conversation_id='{cursed}'"):
        settled = bridge.deliveries.settle([answered(one), answered(two)], "me")
        assert [each.state for each in settled] == ["lost", "done"]
        three = claim_one(bridge)
        store.clock.now += LEASE + 1
        assert [each.message_id for each in bridge.deliveries.reap()] == [three.message_id]
    [reaped] = bridge.deliveries.reap()
    newest = bridge.messages.find(limit=1)[0].id
    assert (reaped.message_id, reaped.state, reaped.answer_id) == (one.message_id, "dead", newest)


def test_a_batch_that_is_not_kept_costs_nothing(store: Store) -> None:
    bridge = store.open()
    ask(bridge, talk(bridge), "why?")
    delivery = claim_one(bridge)
    with store.refusing("answers"):
        assert settle(bridge, costing(answered(delivery), USED)).state == "lost"
        assert bridge.overview.spent("2027-01-15") == {}
    settle(bridge, costing(answered(delivery), USED))
    assert bridge.overview.spent("2027-01-15")["main"].answers == 1


def test_an_arrival_that_the_store_refuses_keeps_no_other_from_being_stored(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    arrived = [arrival(conversation, text) for text in ("one", "odd", "two")]
    with store.refusing("messages", "new.message LIKE '%odd%'"):
        committed = turn(bridge, *arrived)
        direct = bridge.messages.store([arrival(conversation, text) for text in ("odd", "three")])
    kinds = [type(one) for one in committed.stored]
    assert kinds == [SentMessage, RowRefused, SentMessage]
    assert [one.text for one in committed.claimed] == [arrived[0].text, arrived[2].text]
    assert [type(one) for one in direct] == [RowRefused, SentMessage]
