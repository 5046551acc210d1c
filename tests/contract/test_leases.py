"""Leases: renewed, expired, freed by the next owner, and bounded in time as every call is."""

import json
import time

import pytest
from answerers import HOME, LEASE, take_over
from bridge_calls import OWN, answered, ask, ask_many, claim, claim_one, failed, renew, settle, talk
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import LONGEST_CALL_S, Settled
from autopoll.errors import BridgeBusy, BridgeUnavailable
from autopoll.message import write_query


def test_a_store_that_keeps_a_call_waiting_gives_it_up_in_time(
    bridge: Bridge, store: Store
) -> None:
    ask(bridge, talk(bridge), "1")
    held = claim_one(bridge)
    with store.blocked():
        begun = time.monotonic()
        with pytest.raises((BridgeBusy, BridgeUnavailable)):
            settle(bridge, answered(held))
        assert time.monotonic() - begun < LONGEST_CALL_S
    assert settle(bridge, answered(held)).state == "done"
    assert len(bridge.messages.find(session="a")) == 1


def test_any_number_of_leases_that_expire_are_ended_by_and_by(bridge: Bridge, store: Store) -> None:
    ids = ask_many(bridge, talk(bridge), 450, metadata=OWN)
    claim(bridge, count=450)
    store.clock.now += LEASE + 1
    freed = []
    while ended := bridge.deliveries.reap():
        freed += [each.message_id for each in ended]
    assert freed == ids
    assert bridge.overview.counts()["ready"] == 450


def test_an_expired_lease_frees_its_question_and_a_renewed_one_does_not(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2", metadata=OWN)
    kept, lost = claim(bridge)
    store.clock.now += LEASE
    assert renew(bridge, kept)
    store.clock.now += 1
    (settled,) = bridge.deliveries.reap()
    assert (settled.message_id, settled.state) == (lost.message_id, "ready")
    assert bridge.messages.query_state(lost.message_id).last_error == "the lease expired"
    again = claim_one(bridge)
    assert (again.message_id, again.attempt) == (lost.message_id, 2)
    assert settle(bridge, answered(lost)).state == "lost"
    assert settle(bridge, answered(kept)).state == "done"


def test_a_lease_that_expires_on_the_last_attempt_ends_in_an_error_answer(
    store: Store,
) -> None:
    bridge = store.open(max_attempts=1)
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2")
    claim_one(bridge)
    store.clock.now += LEASE + 1
    assert [settled.state for settled in bridge.deliveries.reap()] == ["dead"]
    (message,) = bridge.messages.receive(conversation, "a")
    assert message.text == "No answer after 1 attempt: the lease expired"
    assert claim_one(bridge).text == "2"


def test_the_error_answer_of_a_lease_that_expired_names_its_question(store: Store) -> None:
    bridge = store.open(max_attempts=1)
    take_over(bridge, "me")
    ask(bridge, talk(bridge), write_query("how?", "q-12345678"), metadata=OWN)
    claim_one(bridge)
    store.clock.now += LEASE + 1
    (dead,) = bridge.deliveries.reap()
    assert dead.query
    assert dead.query.answer
    assert json.loads(dead.query.answer.text)["query_id"] == "q-12345678"


def test_a_new_owner_frees_what_the_old_one_held_and_gives_the_attempt_back(
    bridge: Bridge,
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2", metadata=OWN)
    take_over(bridge, "old")
    taken = claim(bridge, owner="old")
    assert take_over(bridge, "new") == 2
    assert bridge.deliveries.settle([answered(delivery) for delivery in taken], "old") == [
        Settled(message_id=delivery.message_id, state="lost") for delivery in taken
    ]
    again = claim(bridge, owner="new")
    assert [delivery.attempt for delivery in again] == [1, 1]
    assert take_over(bridge, "new") == 0


def test_a_poller_is_shown_with_its_home_for_a_lease_beyond_its_last_sign_of_life(
    bridge: Bridge, store: Store
) -> None:
    shown = "SELECT owner, home, beat_until-? FROM pollers"

    def left() -> int:
        ((owner, home, span),) = store.foreign(shown, store.clock.now)
        assert (owner, home) == ("me", HOME)
        return int(span)

    take_over(bridge, "before")
    take_over(bridge, "me")
    assert left() == LEASE
    store.clock.now += LEASE // 4
    bridge.deliveries.renew([], "me", LEASE)
    assert left() == LEASE * 3 // 4, "nothing is written while more than half of it is left"
    store.clock.now += LEASE // 2
    bridge.deliveries.renew([], "me", LEASE)
    assert left() == LEASE
    store.clock.now -= 3_600_000
    bridge.deliveries.renew([], "me", LEASE)
    assert left() == LEASE
    ask(bridge, talk(bridge), "1")
    store.clock.now += 1000
    assert renew(bridge, claim_one(bridge))
    assert left() == LEASE


def test_what_an_owner_has_claimed_without_knowing_is_released_and_the_rest_is_kept(
    bridge: Bridge,
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2", "3", "4", metadata=OWN)
    (others,) = claim(bridge, 1, owner="another")
    known, expired, unknown = claim(bridge)
    settle(bridge, failed(expired))
    (again,) = claim(bridge)
    held = [(known.message_id, known.fence), (expired.message_id, expired.fence)]
    assert bridge.deliveries.release_unconfirmed("me", held) == 2
    assert {(one.message_id, one.fence, one.attempt) for one in claim(bridge)} == {
        (again.message_id, again.fence + 1, 2),
        (unknown.message_id, unknown.fence + 1, 1),
    }
    assert settle(bridge, answered(unknown)).state == "lost"
    assert settle(bridge, answered(known)).state == "done"
    assert settle(bridge, answered(others), owner="another").state == "done"


def test_a_question_that_kills_every_owner_dies_in_the_end(store: Store) -> None:
    bridge = store.open(max_attempts=3)
    conversation = talk(bridge)
    ask(bridge, conversation, "poison")
    claims = 0
    take_over(bridge, "owner 0")
    while claim(bridge, owner=f"owner {claims}"):
        claims += 1
        take_over(bridge, f"owner {claims}")
    assert claims == 20 + 3
    (message,) = bridge.messages.receive(conversation, "a")
    assert message.text == "No answer after 3 attempts: its poller died"
