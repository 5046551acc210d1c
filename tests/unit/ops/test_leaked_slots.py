"""Questions that are leased for longer than they may be, while the workers idle, are seen."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from answerers import take_over
from bridge_calls import ask

from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.clock import wall_ms
from autopoll.home.config import Config, load
from autopoll.home.home import Home
from autopoll.ops.leaked_slots import leaked_slots
from autopoll.process.heartbeat import ProcessState
from autopoll.process.heartbeat_writer import Heart

CONFIG = (
    '[shards.main]\nbackend = "echo"\nrequest_timeout = "10s"\n[shards.spare]\nbackend = "echo"\n'
)
LATE_S = 25  # longer than the shard's time and what is left to give up


class Scene:
    def __init__(self, root: Path) -> None:
        (root / "autopoll.toml").write_text(CONFIG)
        self.home = Home(root)
        self.home.beats.mkdir(parents=True)
        self.config: Config = load(self.home)
        self.age_s = 0
        self.bridge = SqliteBridge(
            root / "bridge.db",
            BridgeLimits(),
            create=True,
            clock=lambda: wall_ms() - self.age_s * 1000,
        )

    def lease(self, age_s: int) -> None:
        self.age_s = age_s
        conversation = self.bridge.conversations.create("a", "b").conversation
        self.bridge.conversations.serve(conversation, "b", "main")
        ask(self.bridge, conversation, "why?")
        assert len(self.bridge.deliveries.claim("poller", {"main": 1}, 60_000)) == 1


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.bridge.close()


@pytest.fixture
def heart(scene: Scene) -> Iterator[Heart]:
    with Heart.open(scene.home.beats, "worker", "worker") as heart:
        heart.state = ProcessState.IDLE
        yield heart


def test_what_may_be_in_flight_in_another_home_that_lives_is_no_leak(scene, heart) -> None:
    take_over(scene.bridge, "poller", home="a" * 32)
    scene.lease(LATE_S)
    assert leaked_slots(scene.home, scene.config, scene.bridge) == {}
    scene.bridge.deliveries.leave("poller")
    assert leaked_slots(scene.home, scene.config, scene.bridge)


def test_a_question_in_flight_for_too_long_beside_an_idle_worker_is_told(scene, heart) -> None:
    scene.lease(LATE_S)
    words = leaked_slots(scene.home, scene.config, scene.bridge)
    assert list(words) == ["main"]
    assert words["main"].startswith("1 in flight, the oldest for 25 s, while its workers are idle")
    assert words["main"].endswith("autopoll restart worker")


def test_who_is_within_the_time_or_at_work_is_not_told(scene, heart) -> None:
    assert leaked_slots(scene.home, scene.config, scene.bridge) == {}
    scene.lease(15)
    assert leaked_slots(scene.home, scene.config, scene.bridge) == {}
    scene.lease(LATE_S)
    heart.begin(1, 1e9)
    assert leaked_slots(scene.home, scene.config, scene.bridge) == {}
    heart.end(1, True)  # just now: another question may be on its way
    assert leaked_slots(scene.home, scene.config, scene.bridge) == {}


def test_a_worker_that_is_not_there_is_no_idle_one(scene) -> None:
    scene.lease(LATE_S)
    assert leaked_slots(scene.home, scene.config, scene.bridge) == {}
