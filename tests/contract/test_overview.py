"""What an operator looks at: numbers, what waits, and dead letters."""

import pytest
from bridge_calls import OWN, answered, ask, claim, claim_one, failed, settle, talk
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.errors import NotFound


def test_a_dead_letter_is_listed_retried_as_a_new_question_or_dropped(bridge: Bridge) -> None:
    conversation = talk(bridge)
    retried, dropped = ask(bridge, conversation, "1", "2", metadata='{"waiter": "w"}')
    for _ in range(2):
        settle(bridge, failed(claim_one(bridge), permanent=True))
    letters = bridge.overview.dead_letters()
    assert [letter.message_id for letter in letters] == [retried, dropped]
    assert [letter.text for letter in letters] == ["1", "2"]
    assert (letters[0].last_error, letters[0].attempts) == ("it broke", 1)
    new = bridge.overview.retry_dead(retried)
    bridge.overview.drop_dead(dropped)
    assert bridge.overview.dead_letters() == []
    assert bridge.overview.counts()["dead"] == 0
    for gone in (retried, dropped, 999):
        with pytest.raises(NotFound):
            bridge.overview.retry_dead(gone)
        with pytest.raises(NotFound):
            bridge.overview.drop_dead(gone)
    delivery = claim_one(bridge)
    assert (delivery.message_id, delivery.text, delivery.lane) == (new, "1", f"m{new}")
    settle(bridge, answered(delivery))
    assert bridge.messages.query_state(new).state == "done"
    assert bridge.messages.query_state(retried).state == "dead"
    assert bridge.overview.counts()["done"] == 1


def test_dead_letters_are_shown_in_short_and_one_by_one(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "first" * 10, "second" * 10, metadata=OWN)
    first, second = claim(bridge)
    bridge.deliveries.settle([failed(first, permanent=True), failed(second, permanent=True)], "me")
    assert [each.text for each in bridge.overview.dead_letters(text_bytes=7)] == [
        "firstfi",
        "seconds",
    ]
    [only] = bridge.overview.dead_letters(message_id=second.message_id)
    assert (only.message_id, only.text) == (second.message_id, "second" * 10)
    assert bridge.overview.dead_letters(message_id=10**9) == []


def test_the_numbers_tell_what_became_of_the_questions(bridge: Bridge, store: Store) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2", "3", "4", metadata=OWN)
    one, two, three, _ = claim(bridge)
    store.clock.now += 70
    bridge.deliveries.settle([answered(one), failed(two, permanent=True), failed(three, 1)], "me")
    assert bridge.overview.counts() == {"queued": 0, "ready": 1, "leased": 1, "done": 1, "dead": 1}
    assert bridge.overview.latencies_ms() == [70]
    assert bridge.overview.in_flight() == {"main": 1}


def test_the_backlog_tells_what_waits_for_whom_and_since_when(bridge: Bridge, store: Store) -> None:
    main, other = talk(bridge), talk(bridge, "other")
    ask(bridge, main, "1", "2", "3", metadata=OWN)
    ask(bridge, other, "4", "5")
    start = store.clock.now
    claim(bridge, 1)
    store.clock.now += 100
    ask(bridge, main, "6")
    found = {(each.shard, each.state): each for each in bridge.overview.backlog()}
    counts = {which: each.count for which, each in found.items()}
    assert counts == {
        ("main", "leased"): 1, ("main", "ready"): 2, ("main", "sent"): 1,
        ("other", "ready"): 1, ("other", "queued"): 1,
    }  # fmt: skip
    assert found["main", "ready"].oldest_at == start
    assert found["main", "sent"].oldest_at > 0


def test_what_is_finished_is_told_once_in_order(bridge: Bridge, store: Store) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2", "3", metadata=OWN)
    one, two, _ = claim(bridge)
    store.clock.now += 70
    bridge.deliveries.settle([answered(one), failed(two, permanent=True)], "me")
    done, dead = bridge.overview.finished(0, 10)
    assert (done.shard, done.state, done.latency_ms, done.attempts) == ("main", "done", 70, 1)
    assert (dead.state, dead.latency_ms) == ("dead", 70)
    assert bridge.overview.finished(0, 1) == [done]
    assert bridge.overview.finished(done.number, 10) == [dead]
    assert bridge.overview.finished(dead.number, 10) == []
