"""When the poller takes its next step of forgetting, and how large that is."""

from typing import Any

import pytest

from autopoll.bridge.retention_protocol import Ages, PrunedRows, SweepPlace, SweepStep
from autopoll.errors import BridgeBusy, BridgeError, BridgeUnavailable
from autopoll.home.config import Config, ShardSection
from autopoll.home.retention_settings import KeptFor, RetentionSection
from autopoll.poller import pruning
from autopoll.poller.outages import Outages
from autopoll.poller.pruning import EVERY_S, FIRST_S, Pruning

CONFIG = Config(shards={"main": ShardSection(backend="echo")})


class Sweeps:
    """A store that takes a moment for each step, or fails."""

    def __init__(self, clock: "Moment") -> None:
        self.clock = clock
        self.took = 0.0
        self.steps: list[tuple[SweepPlace, int]] = []
        self.ages: list[Ages] = []
        self.next: list[SweepPlace | BridgeError | None] = []

    def sweep(self, ages: Ages, place: SweepPlace, most: int) -> SweepStep:
        self.steps.append((place, most))
        self.ages.append(ages)
        self.clock.now += self.took
        after = self.next.pop(0)
        if isinstance(after, BridgeError):
            raise after
        return SweepStep(PrunedRows(questions=most), after)


class Moment:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Scene:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Moment()
        monkeypatch.setattr(pruning, "time", self.clock)
        self.store: Any = Sweeps(self.clock)
        self.waits: list[float] = []
        self.busy = False
        self.pruning = Pruning(CONFIG, self.store, self.waits.append, lambda: self.busy)

    def step(self, after: SweepPlace | BridgeError | None, took: float = 0.0) -> float:
        """Take a step when it is due; return for how long nothing is done then."""
        self.clock.now += self.waits[-1]
        assert self.pruning.is_due
        self.store.took = took
        self.store.next = [after]
        self.pruning.step()
        assert not self.pruning.is_due
        return self.waits[-1]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_a_sweep_goes_on_where_it_stopped_and_begins_again_after_an_hour(scene: Scene) -> None:
    assert scene.waits == [FIRST_S] * len(scene.waits)
    scene.step(SweepPlace(0, 70))
    scene.step(SweepPlace(1, 5))
    assert scene.step(None) == EVERY_S
    scene.step(None)
    assert [place for place, _ in scene.store.steps] == [
        (0, 0), (0, 70), (1, 5), (0, 0)
    ]  # fmt: skip


def test_most_of_the_time_is_left_to_questions_and_more_while_some_are_under_way(
    scene: Scene,
) -> None:
    place = SweepPlace(0, 1)
    assert scene.step(place) == pytest.approx(0.05)
    assert scene.step(place, took=0.02) == pytest.approx(0.2)
    scene.busy = True
    assert scene.step(place) == pytest.approx(0.1)
    assert scene.step(place, took=0.02) == pytest.approx(0.6)


def test_a_step_is_as_large_as_a_few_milliseconds_allow(scene: Scene) -> None:
    place = SweepPlace(0, 1)
    for _ in range(8):
        scene.step(place, took=0.002)
    assert scene.store.steps[-1][1] == 400
    for _ in range(8):
        scene.step(place, took=0.01)
    assert scene.store.steps[-1][1] == 20
    scene.step(place, took=0.005)
    scene.step(place)
    assert scene.store.steps[-1][1] == 20, "what is neither short nor long stays"


@pytest.mark.parametrize("error", [BridgeBusy("locked"), BridgeError("a rule of others")])
def test_a_store_that_refuses_is_left_alone_for_an_hour(scene: Scene, error: BridgeError) -> None:
    assert scene.step(error) == EVERY_S
    scene.step(None)
    assert scene.store.steps[-1][0] == SweepPlace()


def test_a_server_that_is_away_is_noticed_and_not_reported(scene: Scene) -> None:
    away = []
    outages = Outages(lambda: None, lambda: away.append(True))
    place = SweepPlace(1, 3)
    scene.step(place)
    scene.clock.now += scene.waits[-1]
    scene.store.next = [BridgeUnavailable("gone")]
    with outages.passed_over():
        scene.pruning.step()
    assert away == [True]
    assert outages.reason == ""
    assert scene.waits[-1] == FIRST_S
    scene.step(None)
    assert scene.store.steps[-1][0] == place


def test_new_settings_begin_a_new_sweep(scene: Scene) -> None:
    scene.step(None)
    kept = RetentionSection(answered=KeptFor(1))
    scene.pruning.update(Config(shards=CONFIG.shards, retention=kept))
    assert scene.waits[-1] == FIRST_S
    scene.step(None)
    assert scene.store.ages[-1].answered == 1000
