"""The self-test's own judgement, in a home where nobody answers but the test."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from types import SimpleNamespace

import pytest
from bridge_calls import send
from place import Place

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Answered
from autopoll.home.config import load
from autopoll.message import Answer
from autopoll.ops.selftest import fault_cases, fault_run
from autopoll.ops.selftest.fault_run import FaultCase, FaultOutcome, FaultRun


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("judgement") / "home")
    yield place
    place.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_run, "PATIENCE_S", 0.2)


def judge(place: Place, answer: Callable[[Bridge], None]) -> FaultOutcome:
    """Strike with a question that does no harm, and have `answer` called at every step."""
    home = SimpleNamespace(home=place.home, config=load(place.home))
    with closing(place.bridge()) as bridge:
        run = FaultRun(FaultCase("nothing", fault_cases.taken, questions=("why?",)), home, bridge)
        for _ in run.run():
            answer(bridge)
        return run.outcome()


def well(bridge: Bridge) -> None:
    for each in bridge.deliveries.claim("me", {"main": 10}, 60_000):
        text = json.loads(each.text or "")["question"]
        settle(bridge, each, Answer(text=text))


def settle(bridge: Bridge, delivery, answer: Answer) -> None:
    outcome = Answered(message_id=delivery.message_id, fence=delivery.fence, answer=answer)
    bridge.deliveries.settle([outcome], "me")


def test_questions_that_are_answered_once_are_neither_lost_nor_doubled(place) -> None:
    outcome = judge(place, well)
    assert (outcome.lost, outcome.twice) == (0, 0)
    assert outcome.is_good


def test_questions_that_nobody_answers_are_lost_and_nothing_was_noticed(place) -> None:
    outcome = judge(place, lambda bridge: None)
    assert outcome.lost >= 2
    assert (outcome.noticed_ms, outcome.answered_ms, outcome.twice) == (None, None, 0)
    assert not outcome.is_good


@pytest.mark.parametrize("answer", [Answer(text="no idea"), Answer(text="why?", error=True)])
def test_an_answer_that_is_wrong_or_tells_an_error_is_a_question_lost(place, answer) -> None:
    def badly(bridge: Bridge) -> None:
        for each in bridge.deliveries.claim("me", {"main": 10}, 60_000):
            settle(bridge, each, answer)

    outcome = judge(place, badly)
    assert outcome.lost >= 1
    assert not outcome.is_good


def test_a_second_answer_is_seen(place) -> None:
    repeated: list[int] = []

    def twice(bridge: Bridge) -> None:
        before = len(bridge.messages.find(kind="response"))
        well(bridge)
        answers = bridge.messages.find(kind="response")
        if len(answers) > before and not repeated:
            last = answers[-1]
            repeated.extend(
                send(bridge, last.conversation, last.sender, last.text, metadata=last.metadata)
            )

    outcome = judge(place, twice)
    assert (outcome.lost, outcome.twice) == (0, 1)
    assert not outcome.is_good
