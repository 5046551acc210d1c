"""The queue of a home that runs, and questions that are taken back."""

import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from doors import SHUT
from place import Place, until

from autopoll.message import answered_by

CONFIG = f"""
[delivery]
visibility_timeout = "30m"  # so that no renewal finds what was taken away

[shards.main]
backend = "command"
request_timeout = "60s"

[shards.main.options]
command = ['{sys.executable}', '{SHUT}']

[shards.other]
backend = "echo"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("queue") / "home", CONFIG).running() as place:
        yield place


@pytest.fixture(autouse=True)
def nothing_waits(place: Place) -> Iterator[None]:
    yield
    (place.root / "go").touch()
    until(lambda: not place.json_lines("queue"), what="the end of all questions")
    (place.root / "go").unlink()


def kept(place: Place, question: str) -> int:
    return int(place.json("ask", "--no-wait", question)["id"])


def under_way(place: Place, number: int) -> dict[str, object]:
    def begun() -> dict[str, object] | None:
        found = [each for each in place.json_lines("queue") if each["id"] == number]
        return found[0] if found and found[0]["worker"] else None

    return until(begun, what="a worker to be at the question")


def test_the_queue_says_which_worker_is_at_what_since_when_and_how_old_the_oldest_is(
    place: Place,
) -> None:
    first, second = kept(place, "first?"), kept(place, "second?")
    shown = under_way(place, first)
    assert (shown["worker"], shown["state"], shown["attempt"]) == ("worker", "leased", 1)
    assert 0 <= time.time() - shown["since"] / 1000 < 60  # type: ignore[operator]
    [one, two] = place.json_lines("queue")
    assert (one["id"], two["id"], two["state"], two["worker"]) == (first, second, "ready", None)
    assert one["age_s"] >= two["age_s"] >= 0
    table = place.run("queue").stdout
    assert "1 leased, 1 ready; the oldest shown has waited for" in table
    assert [each["id"] for each in place.json_lines("queue", "--after", str(first))] == [second]
    assert "more: autopoll queue --after" in place.run("queue", "--limit", "1").stdout
    assert place.json_lines("queue", "--shard", "other") == []
    place.run("queue", "--shard", "nowhere", code=2)


def test_an_asker_reads_at_once_that_its_waiting_question_was_cancelled(place: Place) -> None:
    first = kept(place, "first?")
    under_way(place, first)
    asking = place.start_ask("second?")
    second = until(
        lambda: [each["id"] for each in place.json_lines("queue") if each["id"] != first],
        what="the second question",
    )[0]
    place.json_lines("cancel", str(second))
    out, err = asking.communicate(timeout=20)
    assert asking.returncode == 1 and "Cancelled by" in out + err
    assert place.json("answer", str(second), code=1)["answer"].startswith("Cancelled by ")


def test_one_under_way_is_taken_from_its_worker_which_goes_on_with_the_next(place: Place) -> None:
    asking = place.start_ask("taken back?")
    first = until(lambda: place.json_lines("queue"), what="the question")[0]["id"]
    under_way(place, first)
    second = kept(place, "second?")
    began = time.monotonic()
    [done] = place.json_lines("cancel", str(first))
    assert done == {
        "id": first, "cancelled": True, "outcome": "cancelled", "was": "leased", "state": "dead",
    }  # fmt: skip
    out, err = asking.communicate(timeout=20)
    assert "Cancelled by" in out + err
    under_way(place, second)
    assert time.monotonic() - began < 10
    (place.root / "go").touch()
    until(lambda: place.json("answer", str(second))["status"] == "answered", what="the answer")
    with closing(place.bridge()) as bridge:
        texts = [each.text for each in bridge.messages.find(limit=50)]
    assert sum("you asked: taken back?" in text for text in texts) == 0


def test_what_is_answered_or_is_not_there_is_named_and_the_rest_is_cancelled(place: Place) -> None:
    done = place.json("ask", "--shard", "other", "quick?")["id"]
    place.json("pause", "other")
    waiting = int(place.json("ask", "--no-wait", "--shard", "other", "slow?")["id"])
    found = place.json_lines("cancel", str(done), str(waiting), "987654321", code=2)
    assert [(each["id"], each["outcome"]) for each in found] == [
        (done, "settled"), (waiting, "cancelled"), (987654321, "unknown"),
    ]  # fmt: skip
    again = place.run("cancel", str(waiting), code=1)
    assert "has its error answer already" in again.stderr
    answer = place.run("cancel", str(number_of_the_answer(place, done)), code=2).stderr
    assert f"is the answer to question {done}" in answer and f"autopoll answer {done}" in answer
    for ugly in ("0", "-1", "x", "9" * 30, "1.5", ""):
        assert place.run("cancel", ugly, code=4).stderr.startswith("autopoll: ")
    place.json("resume", "other")


def number_of_the_answer(place: Place, question: int) -> int:
    """Return the number of the message that answers a question."""
    with closing(place.bridge()) as bridge:
        found = bridge.messages.find(limit=50)
    [number] = [each.id for each in found if answered_by(each.metadata) == question]
    return number


@pytest.mark.long
def test_questions_are_cancelled_with_the_home_down_and_before_they_are_enrolled(
    place: Place,
) -> None:
    place.run("down")
    try:
        number, other = kept(place, "never seen?"), kept(place, "nor this?")
        assert [each["state"] for each in place.json_lines("queue")] == ["sent", "sent"]
        place.json_lines("cancel", str(number), str(other))
        assert place.json("answer", str(number), code=1)["status"] == "error"
        assert place.json_lines("queue") == []
    finally:
        place.run("up")
