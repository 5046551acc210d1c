"""What is known afterwards of how a question came to its answer."""

import json
import time

import msgspec
import pytest
from answerers import LEASE, take_over
from bridge_calls import (
    OWN,
    USED,
    answered,
    arrival,
    ask,
    claim,
    claim_one,
    costing,
    failed,
    released,
    send,
    settle,
    stored,
    talk,
    turn,
)
from bridge_stores import Store

from autopoll.bridge.attempt_record import KEPT, AttemptTimes
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Outcome
from autopoll.errors import NotFound


def timed(outcome: Outcome, worker: str = "worker-main-1", ago_ms: int = 0) -> Outcome:
    now = time.monotonic() - ago_ms / 1000
    times = AttemptTimes(
        worker=worker, pid=42, claimed=now - 0.4, sent=now - 0.3, begun=now - 0.2, ended=now - 0.1
    )
    return msgspec.structs.replace(outcome, times=times)


def test_each_attempt_is_kept_with_its_worker_its_times_and_its_end(
    bridge: Bridge, store: Store
) -> None:
    (number,) = ask(bridge, talk(bridge), "why?")
    settle(bridge, timed(failed(claim_one(bridge)), "worker-a"))
    settle(bridge, timed(released(claim_one(bridge)), "worker-b"))
    store.clock.now += 1000
    settle(bridge, timed(costing(answered(claim_one(bridge)), USED), "worker-c"))
    history = bridge.overview.history(number)
    assert [(each.attempt, each.outcome, each.worker) for each in history.attempts] == [
        (1, "failed", "worker-a"), (2, "released", "worker-b"), (2, "answered", "worker-c"),
    ]  # fmt: skip
    first, _, last = history.attempts
    assert first.error == "it broke"
    assert (last.pid, last.usage) == (42, USED)
    assert last.claimed and last.sent and last.begun and last.ended
    assert last.claimed < last.sent < last.begun < last.ended < last.stored == store.clock.now
    assert last.stored - last.claimed == pytest.approx(400, abs=200)
    assert (history.state, history.tries, history.settled_at) == ("done", 2, last.stored)
    answer = bridge.messages.query_state(number).answer
    assert answer is not None and history.answer_id == answer.id


def test_what_was_answered_long_before_it_could_be_stored_keeps_its_times(
    bridge: Bridge, store: Store
) -> None:
    (number,) = ask(bridge, talk(bridge), "why?")
    settle(bridge, timed(answered(claim_one(bridge)), ago_ms=5000))
    [only] = bridge.overview.history(number).attempts
    assert only.ended is not None
    assert only.stored - only.ended == pytest.approx(5100, abs=400)


def test_an_attempt_that_somebody_else_ends_is_kept_without_what_nobody_knows(
    bridge: Bridge, store: Store
) -> None:
    numbers = ask(bridge, talk(bridge), "1", "2", metadata=OWN)
    bridge.deliveries.claim("me", {"main": 2}, LEASE)
    store.clock.now += LEASE + 1
    bridge.deliveries.reap()
    take_over(bridge, "another")
    for number in numbers:
        [only] = bridge.overview.history(number).attempts
        assert (only.outcome, only.error, only.worker) == ("failed", "the lease expired", None)


def test_a_dead_letter_says_so_and_what_it_was_retried_as(bridge: Bridge) -> None:
    (number,) = ask(bridge, talk(bridge), "why?")
    settle(bridge, timed(failed(claim_one(bridge), permanent=True)))
    assert bridge.overview.history(number).attempts[-1].outcome == "dead"
    again = bridge.overview.retry_dead(number)
    before, after = bridge.overview.history(number), bridge.overview.history(again)
    assert (before.retried_as, after.retry_of) == (again, number)
    assert after.state == "sent"


def test_the_first_attempt_and_the_newest_are_kept_of_very_many(bridge: Bridge) -> None:
    (number,) = ask(bridge, talk(bridge), "why?")
    for count in range(KEPT + 5):
        settle(bridge, timed(released(claim_one(bridge)), f"worker-{count}"))
    kept = bridge.overview.history(number).attempts
    assert len(kept) == KEPT
    assert (kept[0].worker, kept[1].worker) == ("worker-0", "worker-6")
    assert kept[-1].worker == f"worker-{KEPT + 4}"


def test_what_waits_names_what_comes_before_it(bridge: Bridge) -> None:
    conversation = talk(bridge)
    first, second, third = ask(bridge, conversation, "1", "2", "3")
    claim_one(bridge)
    assert bridge.overview.history(third).before == [first, second]
    assert bridge.overview.history(first).before == []


def test_an_answer_names_its_question_and_a_lie_is_not_believed(bridge: Bridge) -> None:
    conversation = talk(bridge)
    (number,) = ask(bridge, conversation, "why?")
    settle(bridge, answered(claim_one(bridge)))
    answer = bridge.messages.query_state(number).answer
    assert answer is not None
    assert bridge.overview.history(answer.id).answer_to == number
    lies = ({"in_reply_to": number}, {"in_reply_to": "x", "retry_of": [1]})
    lie, text = (
        send(bridge, conversation, "b", "no", metadata=json.dumps(each))[0] for each in lies
    )
    assert bridge.overview.history(lie).answer_to is None
    assert bridge.overview.history(text).answer_to is None


def test_who_holds_a_question_is_named_by_its_home(bridge: Bridge) -> None:
    take_over(bridge, "me", host="elsewhere", folder="/srv/a")
    [sent] = turn(bridge, arrival(talk(bridge), "why?")).stored
    history = bridge.overview.history(stored(sent).id)
    assert (history.state, history.owner_host, history.owner_folder) == (
        "leased", "elsewhere", "/srv/a",
    )  # fmt: skip


@pytest.mark.parametrize("kept", ["", "[", "{}", '[{"x":1}]', "[1,2]", "null", '"a"'])
def test_a_history_that_cannot_be_read_is_none_and_harms_nothing(
    bridge: Bridge, store: Store, kept: str
) -> None:
    (number,) = ask(bridge, talk(bridge), "why?")
    held = claim_one(bridge)
    store.foreign("UPDATE deliveries SET history=? WHERE message_id=?", kept, number)
    assert bridge.overview.history(number).attempts == []
    assert settle(bridge, answered(held)).state == "done"
    assert len(bridge.overview.history(number).attempts) == 1


def test_an_error_is_kept_cleaned_and_cut(bridge: Bridge) -> None:
    (number,) = ask(bridge, talk(bridge), "why?")
    long = msgspec.structs.replace(
        failed(claim_one(bridge)), error="sk-ant-api03-" + "a" * 90 + " \x00\ud800 " + "x" * 9000
    )
    settle(bridge, long)
    [only] = bridge.overview.history(number).attempts
    assert only.error is not None and len(only.error) <= 500
    assert "aaaaaaaa" not in only.error


def test_there_is_no_history_of_what_is_not_there(bridge: Bridge) -> None:
    with pytest.raises(NotFound):
        bridge.overview.history(10**9)


def test_who_was_at_a_question_that_was_cancelled_is_kept_when_its_poller_tells(
    bridge: Bridge,
) -> None:
    lost, cancelled = ask(bridge, talk(bridge), "1", "2", metadata=OWN)
    first, second = claim(bridge, 2)
    bridge.deliveries.cancel([cancelled], "Cancelled by ann")
    for _ in range(2):  # as it is repeated where nobody knows whether it was committed
        settle(bridge, timed(failed(second), "worker-b"))
    [only] = bridge.overview.history(cancelled).attempts
    assert (only.outcome, only.worker, only.attempt) == ("cancelled", "worker-b", 1)
    assert (only.error, only.pid) == ("Cancelled by ann", 42)
    bridge.deliveries.release_unconfirmed("me", [])
    settle(bridge, timed(answered(first), "worker-a"))
    [given_back] = bridge.overview.history(lost).attempts
    assert given_back.outcome == "released", "it is asked again"


def test_of_a_cancelled_question_no_earlier_attempt_is_taken_for_the_last(bridge: Bridge) -> None:
    (number,) = ask(bridge, talk(bridge), "1")
    earlier = claim_one(bridge)
    settle(bridge, timed(failed(earlier), "worker-a"))
    claim_one(bridge)
    bridge.deliveries.cancel([number], "Cancelled by ann")
    settle(bridge, timed(failed(earlier), "worker-a", ago_ms=60_000))
    assert [each.outcome for each in bridge.overview.history(number).attempts] == ["failed"]
