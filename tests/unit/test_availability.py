"""What is in the way of an answer, in every state that a poller and a worker can be in."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from autopoll import availability
from autopoll.availability import Obstacle, obstacle
from autopoll.bridge.contract import QueryState
from autopoll.config import Config, load
from autopoll.errors import Exit, NotFound, SupervisorError
from autopoll.home import Home
from autopoll.process.heartbeat import Heart, State
from autopoll.process.supervisor import Program
from autopoll.progress import words

CONFIG = '[shards.main]\nbackend = "echo"\ninstances = 2\n'
CONF = "[unix_http_server]\nfile = %(here)s/../s.sock\n"
WORKERS = ("worker", "worker-main-2")


class Scene:
    """A home whose processes are made up: those that live are we, the rest supervisord tells of."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.home.config.write_text(CONFIG)
        self.home.supervisord_conf.parent.mkdir()
        self.home.supervisord_conf.write_text(CONF)
        self.home.make_private()
        self.config: Config = load(self.home, {})
        self.states: dict[str, str] = {}
        self.supervisord = "RUNNING"
        self.hearts: dict[str, Heart] = {}
        self._open = ExitStack()

    def lives(self, *names: str) -> None:
        for name in names:
            heart = self._open.enter_context(Heart.open(self.home.beats, name, name))
            heart.state = State.IDLE
            self.hearts[name] = heart

    def says(self, name: str, text: str) -> None:
        (self.home.log / f"{name}.stderr").write_text(f"autopoll: {text}\n  mend it\n")

    def look(self) -> Obstacle | None:
        return obstacle(self.home, self.config, "main")

    def close(self) -> None:
        self._open.close()

    # --- as the client of supervisord

    def process(self, name: str) -> Program:
        state = self.states.get(name.partition(":")[0])
        if self.supervisord == "hung":
            raise SupervisorError("does not answer", hung=True)
        if self.supervisord == "down":
            raise SupervisorError("not running")
        if state is None:
            raise NotFound("no such program")
        refused = Exit.BAD_CONFIG if state == "EXITED" else 0
        return Program(
            name=name, group=name, state=state, pid=0, start=0, stop=0, now=0, spawnerr="",
            exitstatus=refused, description="",
        )  # fmt: skip

    def state(self) -> str:
        return self.supervisord


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(tmp_path)
    monkeypatch.setattr(availability, "Supervisor", lambda *_: made)
    yield made
    made.close()


def test_nothing_is_in_the_way_while_the_poller_and_one_instance_work(scene: Scene) -> None:
    scene.lives("poller", "worker-main-2")
    scene.states["worker"] = "STOPPED"
    assert scene.look() is None


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
    found = scene.look()
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
    found = scene.look()
    assert found
    assert found.what.startswith("poller failed whenever it was started: bridge.db is damaged")
    assert found.lasting == (not watched)
    assert ("no watchdog" in found.what) == (not watched)


def test_a_poller_that_the_store_holds_up_says_why_and_may_go_on(scene: Scene) -> None:
    scene.lives("poller", *WORKERS)
    scene.hearts["poller"].note = "no room to write bridge.db; nothing was changed"
    scene.hearts["poller"].state = State.HELD
    found = scene.look()
    assert found
    assert found == Obstacle(what="poller is held: no room to write bridge.db; nothing was changed")


@pytest.mark.parametrize("watched", [True, False])
def test_a_poller_that_stands_still_is_mended_by_the_watchdog_if_there_is_one(
    scene: Scene, watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.lives("poller", *WORKERS, *(["watchdog"] if watched else []))
    monkeypatch.setattr(availability, "STALE_S", -1.0)
    found = scene.look()
    assert found
    assert "poller has stood still" in found.what
    assert found.lasting == (not watched)


def test_of_two_instances_the_one_that_comes_back_by_itself_counts(scene: Scene) -> None:
    scene.lives("poller", "watchdog")
    scene.states |= {"worker": "STOPPED", "worker-main-2": "STARTING"}
    found = scene.look()
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
                mend="Start everything anew: autopoll restart",
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
    assert scene.look() == found


def test_an_unknown_program_is_named(scene: Scene) -> None:
    scene.lives("poller")
    found = scene.look()
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
