"""Whatever a backend says, its question has an outcome and its worker keeps every slot."""

from collections.abc import Iterator
from typing import Any

import pytest
from naughtiness import naughty_home
from place import Place

from autopoll.process import incident_log

CONFIG = """
[delivery]
max_attempts = 2
[shards.main]
backend = "odd"
[shards.clings]
backend = "odd"
request_timeout = "1s"
"""
HALF = "half \N{REPLACEMENT CHARACTER}"
TEXTS = {  # question -> answer, sources
    "answer": (HALF, []),
    "source": ("so", ["a.md:1-2", HALF]),
    "kind": ("so", [HALF]),
    "pieces": ("\U0001f600", []),
}
ERRORS = {  # question -> beginning of the error
    "error": HALF,
    "object": "what the backend said cannot be sent: ",
    "number": "what the backend said cannot be sent: ",
    "wrong": "what the backend said cannot be sent: ",
    "nothing": "No answer after 2 attempts: ",
    "flood": "xxx",
}
ONCE = ("retriable", "broken", "raised", "speechless", "gone")
TIMES = 3  # one more than the backend has slots
QUESTIONS = [*TEXTS, *ERRORS] * TIMES + [f"once {what}" for what in ONCE]

Answers = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with naughty_home(tmp_path_factory.mktemp("odd"), CONFIG) as place:
        place.run("up")
        yield place


@pytest.fixture(scope="module")
def answers(place: Place) -> Answers:
    """Ask everything, and then what is good: all of it is answered by the same two processes."""
    before = place.pid("poller"), place.pid("worker")
    results = place.json_lines(
        "ask", "--lines", "--timeout", "60", stdin="\n".join(QUESTIONS), code=1
    )
    good = [f"good {number}" for number in range(TIMES)]
    said = place.json_lines("ask", "--lines", "--timeout", "60", stdin="\n".join(good))
    assert [one["answer"] for one in said] == good
    assert (place.pid("poller"), place.pid("worker")) == before
    found: Answers = {}
    for question, result in zip(QUESTIONS, results, strict=True):
        found.setdefault(question, []).append(result)
    return found


@pytest.mark.parametrize("question", TEXTS)
def test_what_is_no_text_becomes_text(answers: Answers, question: str) -> None:
    for result in answers[question]:
        assert (result["answer"], result["sources"]) == TEXTS[question]
        assert (result["status"], result["attempts"]) == ("answered", 1)


@pytest.mark.parametrize("question", ERRORS)
def test_what_cannot_be_an_answer_becomes_an_error_that_names_it(
    answers: Answers, question: str
) -> None:
    for result in answers[question]:
        assert result["status"] == "error"
        assert result["answer"].startswith(ERRORS[question])


@pytest.mark.parametrize("what", ONCE)
def test_what_fails_in_an_odd_way_is_tried_again(answers: Answers, what: str) -> None:
    for result in answers[f"once {what}"]:
        assert (result["status"], result["attempts"]) == ("answered", 2)


def test_nothing_is_left_in_flight(answers: Answers, place: Place) -> None:
    assert place.json("status")["queue"]["leased"] == 0
    assert place.json("health")["verdict"] == "ok"


@pytest.mark.long
def test_who_cannot_even_be_cancelled_is_killed_and_the_question_asked_again(place: Place) -> None:
    pid = place.pid("worker-clings-1")
    result = place.ask("once clinging", "--shard", "clings", "--timeout", "60")
    assert (result["answer"], result["attempts"]) == ("once clinging", 2)
    assert place.pid("worker-clings-1") != pid
    found = incident_log.read(place.home.incidents)
    assert [one.verdict for one in found if one.process == "worker-clings-1"] == ["hung-request"]
