"""A service that works for nobody: the shard is paused, and no restart and no attempt is wasted."""

import re
from collections.abc import Iterator

import pytest
from moods import CONFIG, answered, asked, incidents, kept, set_mood, shard, states
from place import Place, until

WORDS = re.compile(r"(\w+) until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ: no \1 left")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("pauses") / "home", CONFIG).running() as place:
        yield place


@pytest.fixture
def place(running: Place) -> Place:
    """A home in which nothing is paused and the program has been asked nothing yet."""
    set_mood(running, "")
    end_pause(running)
    (running.root / "asked").unlink(missing_ok=True)
    (running.home.incidents).unlink(missing_ok=True)
    running.ready("poller", "worker")
    return running


def end_pause(place: Place) -> None:
    """End a pause by hand, before its time."""
    for path in place.home.pauses.iterdir():
        path.unlink()
    until(lambda: not shard(place)["paused"], what="the end of the pause")


def paused(place: Place) -> str:
    words = until(lambda: shard(place)["paused"], 20, "the shard to be paused")
    assert WORDS.fullmatch(words)
    return words


def test_a_used_up_quota_pauses_the_shard_and_costs_nothing(place) -> None:
    worker = place.pid("worker")
    set_mood(place, "quota 600000")
    questions = kept(place, "first?")
    words = paused(place)
    assert words.startswith("quota until ")
    questions += kept(place, "second?") + kept(place, "third?")

    health = place.json("health", "--deep", code=1)
    assert health["verdict"] == "degraded"
    [check] = [each for each in health["checks"] if each["name"] == "shard main"]
    assert not check["ok"] and words in check["detail"]
    assert "canary main" not in [each["name"] for each in health["checks"]]
    assert not place.json("status", code=1)["ready"]
    assert states(place, questions) == {("ready", 0)}
    assert asked(place) == ["first?"]

    set_mood(place, "")
    end_pause(place)
    answered(place, questions)
    assert asked(place) == ["first?", "first?", "second?", "third?"]
    assert place.pid("worker") == worker
    assert shard(place)["paused"] is None
    assert place.json("health")["verdict"] == "ok"
    [incident] = incidents(place)
    assert (incident["verdict"], incident["action"]) == ("quota", "paused")
    assert "no quota left" in incident["evidence"] and incident["recovered_ms"] > 0


def test_who_asks_is_told_that_the_shard_is_paused_and_until_when(place) -> None:
    set_mood(place, "overloaded 600000")
    told = place.run("ask", "anybody?", "--timeout", "2500ms", code=5).stderr
    assert re.search(r"is kept: shard main is paused, overloaded until .*Z: no overloaded", told)
    set_mood(place, "")
    end_pause(place)
    [number] = re.findall(r"question (\d+) is kept", told)
    assert place.json("answer", number)["answer"]


@pytest.mark.long
def test_after_the_time_one_question_is_tried_first_and_the_pause_goes_on_if_it_fails(
    place,
) -> None:
    set_mood(place, "quota 1500")
    questions = kept(place, "a?")
    until(lambda: asked(place))
    questions += kept(place, "b?", "c?", "d?")
    until(lambda: len(asked(place)) == 2, what="a trial")
    set_mood(place, "")
    answered(place, questions)
    assert asked(place)[:3] == ["a?", "a?", "a?"]
    [incident] = incidents(place)
    assert incident["recovered_ms"] >= 1500


def test_a_pause_outlives_the_poller(place) -> None:
    set_mood(place, "quota 600000")
    questions = kept(place, "patience?")
    words = paused(place)
    old = place.kill("poller")
    until(lambda: (beat := place.beat("poller")) and beat.pid != old and beat.state == "idle")
    assert shard(place)["paused"] == words
    set_mood(place, "")
    end_pause(place)
    answered(place, questions)
    assert asked(place) == ["patience?", "patience?"]
    [incident] = incidents(place, verdict="quota")
    assert incident["recovered_ms"] > 0


def test_bad_credentials_are_tried_again_at_a_restart_or_when_the_file_is_removed(place) -> None:
    set_mood(place, "credentials")
    questions = kept(place, "who am I?")
    assert paused(place).startswith("credentials until ")
    (place.home.pauses / "main").unlink()
    until(lambda: len(asked(place)) == 2, what="one trial after the file was removed")
    paused(place)
    set_mood(place, "")
    place.run("restart", "worker")
    answered(place, questions)
    assert asked(place) == ["who am I?"] * 3
    [incident] = incidents(place, verdict="credentials")
    assert incident["recovered_ms"] is not None
