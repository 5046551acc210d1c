"""What is in the way of an answer, in every state that a poller and a worker can be in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from scene import WORKERS, Scene

from autopoll.bridge.records import QueryState
from autopoll.client import availability
from autopoll.client.availability import Obstacle, obstacle
from autopoll.client.result import words
from autopoll.process.heartbeat import ProcessState


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(tmp_path)
    monkeypatch.setattr(availability, "Supervisor", lambda *_: made)
    yield made
    made.close()


def look(scene: Scene) -> Obstacle | None:
    return obstacle(scene.home, scene.config, "main")


def test_nothing_is_in_the_way_while_the_poller_and_one_instance_work(scene: Scene) -> None:
    scene.lives("poller", "worker-main-2")
    scene.states["worker"] = "STOPPED"
    assert look(scene) is None


@pytest.mark.parametrize(
    ("state", "what", "lasting"),
    [
        ("STOPPED", "{} was stopped by hand", True),
        ("EXITED", "{} does not start: it broke", True),
        ("BACKOFF", "{} is started again: it broke", False),
        ("STARTING", "{} is started", False),
        ("RUNNING", "{} is started", False),
    ],
)
@pytest.mark.parametrize("names", [("poller",), WORKERS])
def test_a_process_that_does_not_live_is_told_by_what_supervisord_knows_of_it(
    scene: Scene, state: str, what: str, lasting: bool, names: tuple[str, ...]
) -> None:
    scene.lives(*({"poller", "watchdog", *WORKERS} - set(names)))
    for name in names:
        scene.states[name] = state
        scene.says(name, "it broke")
    found = look(scene)
    assert found
    assert (found.what, found.lasting) == (what.format(names[0]), lasting)
    assert (f"autopoll restart {names[0]}" in found.mend) == lasting


@pytest.mark.parametrize("watched", [True, False])
def test_what_was_given_up_is_taken_up_by_the_watchdog_if_there_is_one(
    scene: Scene, watched: bool
) -> None:
    scene.lives(*WORKERS, *(["watchdog"] if watched else []))
    scene.states["poller"] = "FATAL"
    scene.says("poller", "bridge.db is damaged")
    found = look(scene)
    assert found
    assert found.what.startswith("poller failed whenever it was started: bridge.db is damaged")
    assert found.lasting == (not watched)
    assert ("no watchdog" in found.what) == (not watched)


def test_a_poller_that_the_store_holds_up_says_why_and_may_go_on(scene: Scene) -> None:
    scene.lives("poller", *WORKERS)
    scene.hearts["poller"].note = "no room to write bridge.db; nothing was changed"
    scene.hearts["poller"].state = ProcessState.HELD
    found = look(scene)
    assert found
    assert found == Obstacle(what="poller is held: no room to write bridge.db; nothing was changed")


@pytest.mark.parametrize("watched", [True, False])
def test_a_poller_that_stands_still_is_mended_by_the_watchdog_if_there_is_one(
    scene: Scene, watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.lives("poller", *WORKERS, *(["watchdog"] if watched else []))
    monkeypatch.setattr(availability, "STALE_S", -1.0)
    found = look(scene)
    assert found
    assert "poller has stood still" in found.what
    assert found.lasting == (not watched)


def test_of_two_instances_the_one_that_comes_back_by_itself_counts(scene: Scene) -> None:
    scene.lives("poller", "watchdog")
    scene.states |= {"worker": "STOPPED", "worker-main-2": "STARTING"}
    found = look(scene)
    assert found
    assert (found.what, found.lasting) == ("worker-main-2 is started", False)


@pytest.mark.parametrize(
    ("supervisord", "found"),
    [
        ("down", None),  # told apart by who waits, for all of the home
        ("SHUTDOWN", Obstacle(what="autopoll is going down")),
        (
            "hung",
            Obstacle(
                what="poller is gone and supervisord, which would start it, does not answer",
                mend="Restart everything: autopoll restart",
                lasting=True,
            ),
        ),
    ],
)
def test_a_poller_that_nobody_can_start_is_told_as_that(
    scene: Scene, supervisord: str, found: Obstacle | None
) -> None:
    scene.lives(*WORKERS)
    scene.states["poller"] = "STOPPED"
    scene.supervisord = supervisord
    assert look(scene) == found


def test_an_unknown_program_is_named(scene: Scene) -> None:
    scene.lives("poller")
    found = look(scene)
    assert found and found.lasting
    assert found.what == "supervisord knows no worker"
    assert "autopoll reload" in found.mend


@pytest.mark.parametrize("state", ["sent", "ready", "leased"])
def test_whoever_waits_reads_what_is_in_the_way(state: str) -> None:
    question = QueryState(
        message_id=7, conversation="c", session="b", state=state, shard="main", attempts=1,
        last_error=None, answer=None, enrolled_at=None, settled_at=None,
    )  # fmt: skip
    told = words(question, None, "poller was stopped by hand")
    assert told == "question 7 is kept: poller was stopped by hand"
