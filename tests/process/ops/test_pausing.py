"""Shards that are paused by hand, in a home that runs."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from place import Place, until

CONFIG = '[shards.main]\nbackend = "echo"\n\n[shards.other]\nbackend = "echo"\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("pausing") / "home", CONFIG).running() as place:
        yield place


def kept(place: Place, question: str, shard: str = "main") -> int:
    return int(place.json("ask", "--no-wait", "--shard", shard, question)["id"])


def state(place: Place, number: int) -> str:
    with closing(place.bridge()) as bridge:
        return bridge.messages.query_state(number).state


def test_a_paused_shard_keeps_its_questions_and_says_so_and_others_answer(place: Place) -> None:
    made = place.json("pause", "main", "--reason", "new notes")
    number = kept(place, "held?")
    until(lambda: state(place, number) == "ready", what="the question to be enrolled")
    assert place.ask("other?", "--shard", "other")["answer"]
    shown = place.run("ask", "waits?", "--timeout", "1.5", code=5)
    assert f"shard main is paused, {made['words']}" in shown.stderr
    several = place.run("ask", "--all", "both?", "--timeout", "5", code=1)
    assert "paused: by" in several.stdout + several.stderr
    assert state(place, number) == "ready"
    health = place.json("health", "--deep", code=1)
    assert any("paused: by" in each["detail"] for each in health["checks"])

    assert place.json("resume", "main")["paused"] is None
    until(lambda: state(place, number) == "done", what="the answer after the resume")
    assert place.json("answer", str(number))["attempts"] == 1


@pytest.mark.long
def test_a_pause_takes_effect_at_once_and_outlives_a_restart(place: Place) -> None:
    for _ in range(20):
        place.json("pause", "other")
        number = kept(place, "not yet?", "other")
        until(lambda number=number: state(place, number) != "sent", what="the question to be seen")
        assert state(place, number) == "ready"
        place.json("resume", "other")
        until(lambda number=number: state(place, number) == "done", what="the answer")
    place.json("pause", "main")
    number = kept(place, "after the restart?")
    place.run("restart")
    place.ready("poller", "worker")
    assert place.ask("other?", "--shard", "other")["answer"]
    assert state(place, number) == "ready"
    place.json("resume", "main")
    until(lambda: state(place, number) == "done", what="the answer")


def test_a_pause_for_a_time_ends_with_nobody_there(place: Place) -> None:
    place.json("pause", "main", "--for", "1s")
    began = time.monotonic()
    assert place.ask("soon?")["status"] == "answered"
    assert time.monotonic() - began > 0.3


def test_a_shard_that_is_removed_and_added_again_is_not_paused(place: Place) -> None:
    place.json("pause", "other")
    place.json("shards", "remove", "other")
    place.json("shards", "add", "other", "--backend", "echo")
    assert place.ask("again?", "--shard", "other")["status"] == "answered"
