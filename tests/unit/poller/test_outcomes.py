"""Every reply, failure and death of a worker becomes one outcome of the delivery."""

import msgspec
import pytest

from autopoll.bridge.records import Answered, Delivery, Failed, Released
from autopoll.message import Answer
from autopoll.poller import outcomes
from autopoll.request import Failure, Reply, Usage

DELIVERY = Delivery(
    message_id=7,
    conversation="c",
    session="b",
    shard="main",
    lane="m7",
    text="why?",
    metadata=None,
    fence=3,
    attempt=2,
    enrolled_at=0,
)


def test_a_reply_is_answered_under_the_fence_of_its_claim() -> None:
    payload = msgspec.msgpack.encode(Reply(answer=Answer(text="so")))
    outcome = outcomes.of_reply(DELIVERY, payload)
    assert isinstance(outcome, Answered)
    assert (outcome.message_id, outcome.fence, outcome.answer.text) == (7, 3, "so")


def test_a_reply_that_cannot_be_read_is_tried_again() -> None:
    outcome = outcomes.of_reply(DELIVERY, b"\xc1 nonsense")
    assert isinstance(outcome, Failed)
    assert not outcome.permanent
    assert outcome.wait_ms > 0


def test_only_what_was_begun_costs_an_attempt_when_its_worker_dies() -> None:
    begun = outcomes.worker_died(DELIVERY, "worker hung up", begun=True)
    assert isinstance(begun, Failed)
    assert begun.error == "worker-died: worker hung up"
    waiting = outcomes.worker_died(DELIVERY, "worker hung up", begun=False)
    assert waiting == Released(message_id=7, fence=3)


@pytest.mark.parametrize("kind", ["draining", "unavailable"])
def test_what_a_worker_could_not_take_on_is_given_back(kind: str) -> None:
    outcome = outcomes.of_failure(DELIVERY, Failure(kind=kind, message="not now"))
    assert outcome == Released(message_id=7, fence=3)


def test_a_permanent_failure_ends_the_delivery_at_once() -> None:
    outcome = outcomes.of_failure(DELIVERY, Failure(kind="permanent", message="never"))
    assert isinstance(outcome, Failed)
    assert outcome.permanent
    assert outcome.error == "never"


@pytest.mark.parametrize("kind", ["retriable", "broken", "timeout", "a kind of tomorrow"])
def test_every_other_failure_is_tried_again_when_the_backend_asks_it(kind: str) -> None:
    outcome = outcomes.of_failure(DELIVERY, Failure(kind=kind, message="x", retry_after_ms=1234))
    assert isinstance(outcome, Failed)
    assert (outcome.permanent, outcome.wait_ms) == (False, 1234)


@pytest.mark.parametrize("kind", ["retriable", "permanent", "broken", "unavailable", "draining"])
def test_whatever_becomes_of_a_failure_it_has_cost_what_it_has_cost(kind: str) -> None:
    usage = Usage(input_tokens=7)
    failure = Failure(kind=kind, message="no", usage=usage)
    assert outcomes.of_failure(DELIVERY, failure).usage == usage


def test_what_a_reply_has_cost_goes_with_it() -> None:
    usage = Usage(output_tokens=7, cost_usd=0.25)
    payload = msgspec.msgpack.encode(Reply(answer=Answer(text="so"), usage=usage))
    assert outcomes.of_reply(DELIVERY, payload).usage == usage


@pytest.mark.parametrize(
    "usage", [{"input_tokens": -1}, {"cost_usd": float("nan")}, {"cost_usd": 1e9}]
)
def test_a_cost_that_cannot_be_added_up_is_no_reply(usage: dict[str, float]) -> None:
    payload = msgspec.msgpack.encode({"answer": {"text": "so"}, "usage": usage})
    assert isinstance(outcomes.of_reply(DELIVERY, payload), Failed)
