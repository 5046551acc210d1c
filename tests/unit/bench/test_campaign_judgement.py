"""The fault campaign's own judgement: it sees what it looks for, and draws what it saw."""

import json
import xml.etree.ElementTree as xml

import pytest

from autopoll.bridge.records import Message
from autopoll.message import Answer, write_answer
from bench.campaign import recovery, verification

OK = [True] * 6


def message(number: int, sender: str, text: str, metadata: str | None = None) -> Message:
    return Message(
        id=number,
        conversation="conv",
        sender=sender,
        recipient="b" if sender == "a" else "a",
        text=text,
        metadata=metadata,
        timestamp="2026-01-01T00:00:00.000",
        read=True,
    )


def reply(number: int, question: Message, text: str, error: bool = False) -> Message:
    answer = Answer(text=text, error=error)
    written = write_answer(
        question.text, answer, message_id=question.id, shard="main", attempt=1, seconds=0.1
    )
    return message(number, "b", *written)


ASKED = [message(number, "a", f"ada {number - 1}") for number in (1, 2, 3)]
REPLIES = [reply(number + 3, ASKED[number - 1], f"ada {number - 1}") for number in (1, 2, 3)]
FIRST, SECOND, THIRD = REPLIES


def kept(replies: list[Message], ada: int = 3, **more) -> list[bool]:
    asked = more.get("asked", ASKED)
    found = verification.verify([*asked, *replies], {"ada": ada}, more.get("losers", ()))
    return [each.kept for each in found]


def test_one_answer_to_each_in_order_is_as_promised() -> None:
    assert kept(REPLIES) == OK


@pytest.mark.parametrize(
    ("replies", "broken"),
    [
        pytest.param([FIRST, SECOND], 0, id="one lost"),
        pytest.param([*REPLIES, reply(9, ASKED[2], "ada 2")], 0, id="one twice"),
        pytest.param([FIRST, SECOND, reply(9, ASKED[2], "broken", True)], 1, id="an error"),
        pytest.param([FIRST, SECOND, reply(9, ASKED[2], "ada 1")], 2, id="another's answer"),
        pytest.param([FIRST, THIRD, SECOND], 3, id="out of order"),
    ],
)
def test_what_is_not_as_promised_is_seen(replies, broken) -> None:
    assert [number for number, each in enumerate(kept(replies)) if not each] == [broken]


def test_a_question_that_was_refused_and_is_there_all_the_same_is_seen() -> None:
    again = message(7, "a", "ada 2")
    found = kept([*REPLIES, reply(8, again, "ada 2")], 4, asked=[*ASKED, again])
    assert found == [True, True, True, True, False, True]


def test_a_question_that_its_asker_knows_and_the_bridge_does_not_is_seen() -> None:
    assert kept(REPLIES, 4) == [*OK[:5], False]
    assert kept(REPLIES, 4, losers={"ada"}) == [*OK[:5], False]
    assert kept(REPLIES, 2, losers={"ada"}) == OK


def test_recovery_lasts_until_everybody_had_an_answer_to_a_new_question() -> None:
    fault = recovery.Fault("KILL worker", 1000)
    late = recovery.Fault("KILL worker", 9000)
    questions = [
        recovery.Question("ada", 900, 5000),  # asked before: its answer says nothing
        recovery.Question("ada", 1100, 1200),
        recovery.Question("bob", 1500, 1700),
        recovery.Question("bob", 1600, 1650),
    ]
    assert recovery.recoveries([fault, late], questions) == {"KILL worker": [650]}


def test_the_plots_show_every_recovery_once() -> None:
    values = [10, 40, 40, 999, 1000, 500_000]
    classes = recovery.histogram(values)
    assert sum(count for _, count in classes) == len(values)
    assert dict(classes)["< 63 ms"] == 2
    assert dict(classes)["< 1 s"] == dict(classes)["< 2 s"] == 1
    assert recovery.text_plot(values).count("\n") == len(classes) - 1
    picture = xml.fromstring(recovery.svg_plot(values, "a < b"))
    texts = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "a < b" in texts
    assert recovery.text_plot([]) == ""
    assert xml.fromstring(recovery.svg_plot([], "")) is not None


def test_the_table_has_median_and_worst_of_each_kind() -> None:
    lines = recovery.table({"slow": [5, 900, 100], "quick": [1]}).splitlines()
    assert [line.split()[:1] for line in lines[1:]] == [["quick"], ["slow"]]
    assert lines[2].split() == ["slow", "3", "100", "900", "900"]


def test_json_of_the_metadata_names_the_question() -> None:
    assert json.loads(FIRST.metadata or "")["in_reply_to"] == verification.in_reply_to(FIRST) == 1
