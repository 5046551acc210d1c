"""What a shard may cost in a day: when it is paused for it, and what lets it go on."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from bridge_calls import OWN, ask

from autopoll.bridge.records import Answered, BridgeLimits
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.home.config import ShardSection
from autopoll.home.home import Home
from autopoll.message import Answer
from autopoll.poller import daily_budgets as module
from autopoll.poller.daily_budgets import DailyBudgets
from autopoll.poller.pauses import Pauses
from autopoll.process import incident_log
from autopoll.process import shard_pause as pauses_module
from autopoll.request import Failure, Usage

EVENING = 1_800_054_000_000  # 2027-01-15T23:00:00Z
HOUR = 3_600_000


class Scene:
    """A poller's budgets over a real bridge, by a clock that moves only when told to."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.home.make_private()
        self.now = EVENING
        self.bridge = SqliteBridge(
            root / "bridge.db", BridgeLimits(), create=True, clock=lambda: self.now
        )
        self.conversation = self.bridge.conversations.create("asker", "shard").conversation
        self.bridge.conversations.serve(self.conversation, "b", "main")

    def start(self, **budget: float) -> None:
        """Be a poller that starts with this budget."""
        shards = {"main": section(**budget), "other": section()}
        self.pauses = Pauses(self.home, shards)
        self.budgets = DailyBudgets(self.bridge, self.pauses, shards)
        self.check()

    def check(self) -> None:
        self.budgets.check(self.pauses.check())

    def spend(self, shard: str = "main", **usage: float) -> None:
        """Have an answer come back, and settled."""
        [number] = ask(self.bridge, self.conversation, "?", metadata=OWN)
        self.bridge.conversations.serve(self.conversation, "b", shard)
        [one] = self.bridge.deliveries.claim("me", {shard: 1}, 60_000)
        outcome = Answered(
            message_id=number, fence=one.fence, answer=Answer(text="so"), usage=Usage(**usage)
        )
        self.budgets.charge(shard, outcome.usage)
        self.bridge.deliveries.settle([outcome], "me")

    @property
    def paused(self) -> str | None:
        pause = pauses_module.read(self.home, "main")
        assert (self.room(answering=False) == 0) == (pause is not None)
        return pause.words if pause else None

    def room(self, *, answering: bool) -> int:
        """Return how many questions the shard may be given when its workers take four."""
        room = {"main": 4, "other": 4}
        self.pauses.limit(room, lambda _: answering)
        return room["main"]


def section(**budget: float) -> ShardSection:
    return ShardSection(backend="echo", **budget)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    clock: Callable[[], int] = lambda: scene.now  # noqa: E731
    monkeypatch.setattr(module, "wall_ms", clock)
    monkeypatch.setattr(pauses_module, "wall_ms", clock)
    with closing(scene.bridge):
        yield scene


def test_a_shard_is_paused_at_its_budget_until_midnight_with_the_numbers_in_the_reason(
    scene: Scene,
) -> None:
    scene.start(daily_tokens=1_000_000)
    scene.spend(input_tokens=900_000, cached_tokens=99_999)
    assert scene.paused is None
    scene.spend(output_tokens=203_345)
    words = "budget until 2027-01-16T00:00:00Z: 1,203,344 of 1,000,000 tokens used today"
    assert scene.paused == words
    [incident] = incident_log.read(scene.home.incidents)
    assert (incident.verdict, incident.action, incident.process) == (
        "budget", "paused", "shard main",
    )  # fmt: skip
    scene.check()
    scene.spend(output_tokens=1)  # of what was in flight
    assert scene.paused == words
    scene.now += HOUR
    scene.check()
    assert scene.paused is None and scene.room(answering=True) == 4  # no trial
    [incident] = incident_log.read(scene.home.incidents)
    assert incident.recovered_ms is not None


def test_dollars_are_a_budget_too_as_far_as_they_are_told(scene: Scene, caplog) -> None:
    scene.start(daily_cost=5.0)
    scene.spend(input_tokens=10**9)
    scene.spend(input_tokens=10**9)
    assert scene.paused is None
    assert caplog.text.count("does not say what an answer costs") == 1
    scene.spend(cost_usd=4.5)
    assert scene.paused is None
    scene.spend(cost_usd=0.625)
    assert scene.paused == "budget until 2027-01-16T00:00:00Z: $5.12 of $5.00 used today"


def test_other_shards_and_other_days_do_not_count(scene: Scene) -> None:
    scene.start(daily_tokens=100)
    scene.spend(input_tokens=99)
    scene.spend("other", input_tokens=99)
    scene.now += HOUR
    scene.check()
    scene.spend(input_tokens=99)
    assert scene.paused is None


def test_a_new_poller_knows_what_was_spent_before_it(scene: Scene) -> None:
    scene.start(daily_tokens=100)
    scene.spend(input_tokens=99)
    scene.start(daily_tokens=100)
    scene.spend(input_tokens=1)
    assert scene.paused
    scene.start(daily_tokens=100)
    assert scene.paused
    (scene.home.pauses / "main").unlink()  # as `down` does
    scene.start(daily_tokens=100)
    assert scene.paused
    assert len(incident_log.read(scene.home.incidents)) == 2


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("budget", [{"daily_tokens": 200}, {}])
def test_a_budget_that_is_raised_or_taken_away_ends_the_pause(
    scene: Scene, budget: dict[str, int], restart: bool
) -> None:
    scene.start(daily_tokens=100)
    scene.spend(input_tokens=150)
    assert scene.paused
    if restart:
        scene.start(**budget)
    else:
        scene.budgets.update({"main": section(**budget)})
        scene.check()
    assert scene.paused is None
    scene.spend(input_tokens=50)
    assert bool(scene.paused) == bool(budget)


def test_who_ends_the_pause_by_hand_waives_the_budget_for_that_day(scene: Scene) -> None:
    scene.start(daily_tokens=100)
    scene.spend(input_tokens=150)
    (scene.home.pauses / "main").unlink()
    scene.check()
    assert scene.paused is None
    scene.spend(input_tokens=150)
    scene.check()
    assert scene.paused is None
    scene.budgets.update({"main": section(daily_tokens=100, max_requests=9)})
    scene.check()
    assert scene.paused is None
    scene.now += HOUR
    scene.check()
    scene.spend(input_tokens=150)
    assert scene.paused


def test_an_instance_that_is_started_anew_ends_a_pause_but_not_one_of_the_budget(
    scene: Scene,
) -> None:
    scene.start(daily_tokens=100)
    scene.spend(input_tokens=150)
    pauses_module.restarted(scene.home, "main")
    scene.check()
    assert scene.paused
    scene.pauses.refused("other", Failure(kind="unavailable", message="no", cause="quota"))
    pauses_module.restarted(scene.home, "other")
    assert not (scene.home.pauses / "other").exists()


def test_a_service_that_refuses_and_a_used_up_budget_follow_each_other(scene: Scene) -> None:
    scene.start(daily_tokens=100)
    refusal = Failure(kind="unavailable", message="no quota", cause="quota", retry_after_ms=60_000)
    scene.pauses.refused("main", refusal)
    scene.spend(input_tokens=150)
    assert scene.paused and scene.paused.startswith("quota")
    scene.now += 60_000
    scene.check()
    assert scene.paused and scene.paused.startswith("budget")
    scene.pauses.refused("main", refusal)
    scene.pauses.answered("main")
    assert scene.paused.startswith("budget")
    [quota, budget] = incident_log.read(scene.home.incidents)
    assert quota.recovered_ms is not None and budget.recovered_ms is None
