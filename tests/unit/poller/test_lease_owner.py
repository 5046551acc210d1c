"""Whatever a store did before its reply was lost, nothing is answered twice or stuck."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bridge_calls import OWN, ask

from autopoll.bridge.records import BridgeLimits, CommittedTurn, Delivery, Settled
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.errors import BridgeError, BridgeUnavailable
from autopoll.home.home import Home
from autopoll.message import Answer
from autopoll.poller import lease_owner, outcomes
from autopoll.poller.lease_owner import LeaseOwner


class Scene:
    """A store that can lose its replies, and what is in flight."""

    lease_ms = 60_000

    def __init__(self, bridge: SqliteBridge, now: list[int]) -> None:
        self.bridge = bridge
        self.now = now
        self.in_flight: list[Delivery] = []
        self.cut = False
        made = bridge.conversations.create("asker", "memory")
        bridge.conversations.serve(made.conversation, "b", "main")
        self.ids = ask(bridge, made.conversation, *"123", metadata=OWN)
        self.calls: list[str] = []
        self.unreachable = False
        self.owner = LeaseOwner(self, self, lambda: self.calls.append("beat"))  # type: ignore[arg-type]

    def leases(self) -> list[tuple[int, int]]:
        return [(one.message_id, one.fence) for one in self.in_flight]

    def renew_leases(
        self, deliveries: "Scene", owner: str, unsettled: list[tuple[int, int]]
    ) -> None:
        self.require_reached("renew")
        deliveries.renew(self.leases() + unsettled, owner, self.lease_ms)

    def reap(self, deliveries: "Scene | None" = None) -> list[Settled]:
        self.require_reached("reap")
        return self.bridge.deliveries.reap()

    def require_reached(self, call: str) -> None:
        self.calls.append(call)
        if self.unreachable:
            self.owner.store_was_away()  # as the poller does, whatever failed
            raise BridgeUnavailable("the server does not answer")

    def settle(self, *args: Any) -> list[Settled]:
        self.require_reached("settle")
        return self.bridge.deliveries.settle(*args)

    def release_unconfirmed(self, *args: Any) -> int:
        self.require_reached("release")
        return self.bridge.deliveries.release_unconfirmed(*args)

    def commit_turn(self, *args: Any) -> CommittedTurn:
        self.require_reached("commit")
        done = self.bridge.deliveries.commit_turn(*args)
        if self.cut:
            self.cut = False
            raise BridgeError("the reply was cut")
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bridge.deliveries, name)

    def turn(self, room: int) -> CommittedTurn:
        committed = self.owner.commit_turn([], {"main": room})
        self.in_flight += committed.claimed
        return committed

    def states(self) -> list[str]:
        return [each.state for each in self.bridge.messages.query_states(self.ids)]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    now = [1_800_000_000_000]
    path = tmp_path / "bridge.db"
    with closing(SqliteBridge(path, BridgeLimits(), create=True, clock=lambda: now[0])) as bridge:
        yield Scene(bridge, now)


def test_what_was_claimed_unknown_to_the_poller_is_claimed_again(scene: Scene) -> None:
    scene.turn(1)
    scene.cut = True
    with pytest.raises(BridgeError):
        scene.turn(1)
    assert scene.states() == ["leased", "leased", "ready"]
    assert [one.message_id for one in scene.turn(9).claimed] == scene.ids[1:]
    assert [(one.fence, one.attempt) for one in scene.in_flight] == [(1, 1), (2, 1), (1, 1)]


def test_an_outcome_whose_settle_may_have_been_committed_is_settled_once(scene: Scene) -> None:
    [first, second] = scene.turn(2).claimed
    scene.in_flight.clear()
    scene.owner.add(outcomes.answered(first, Answer(text="so")))
    scene.cut = True
    with pytest.raises(BridgeError):
        scene.turn(0)
    scene.owner.add(outcomes.answered(second, Answer(text="so")))
    assert scene.owner.has_unsettled
    settled = scene.turn(0).settled
    assert [(one.message_id, one.state) for one in settled] == [
        (first.message_id, "done"),
        (second.message_id, "done"),
    ]
    assert not scene.owner.has_unsettled
    assert len(scene.bridge.messages.find(session="a")) == 2


def test_nothing_is_released_when_no_claim_has_failed(scene: Scene) -> None:
    scene.turn(1)
    scene.in_flight.clear()
    assert scene.turn(0).claimed == []
    assert scene.states() == ["leased", "ready", "ready"]


def test_an_answer_that_outlives_its_lease_in_an_outage_is_not_asked_for_again(
    scene: Scene,
) -> None:
    [answered, _] = scene.turn(2).claimed
    scene.in_flight.clear()
    scene.owner.add(outcomes.answered(answered, Answer(text="so")))
    scene.now[0] += scene.lease_ms + 1
    assert [one.message_id for one in scene.owner.renew()] == [scene.ids[1]]
    assert [one.state for one in scene.turn(0).settled] == ["done"]


def test_a_home_is_shown_with_its_shards_also_when_they_have_changed(
    scene: Scene, tmp_path: Path
) -> None:
    def shown() -> tuple[str, str, list[str]]:
        [home] = scene.bridge.overview.homes()
        return home.host, home.folder, home.shards

    home = Home(tmp_path)
    home.make_private()
    scene.owner.take_over(home, {"main": 1})
    assert shown() == (os.uname().nodename, str(tmp_path), ["main"])
    scene.owner.shards = ["main", "logs"]
    scene.owner.renew()
    assert shown() == (os.uname().nodename, str(tmp_path), ["main", "logs"])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock of the owner, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(lease_owner.time, "monotonic", lambda: now[0])
    return now


def fail_for_a_while(scene: Scene) -> None:
    scene.unreachable = True
    for _ in range(2):
        with pytest.raises(BridgeUnavailable):
            scene.turn(9)
        with pytest.raises(BridgeUnavailable):
            scene.owner.renew()
    scene.unreachable = False
    scene.calls.clear()


def test_a_store_that_was_away_is_sent_a_renewal_before_anything_else(
    scene: Scene, clock: list[float]
) -> None:
    [answered, _] = scene.turn(2).claimed
    scene.in_flight.remove(answered)
    scene.owner.add(outcomes.answered(answered, Answer(text="so")))
    fail_for_a_while(scene)
    assert [one.state for one in scene.turn(0).settled] == ["done"], "it was kept meanwhile"
    assert scene.calls == ["renew", "beat", "release", "beat", "commit"]
    scene.calls.clear()
    scene.turn(0)
    assert scene.calls == ["commit"]


def test_while_draining_too(scene: Scene, clock: list[float]) -> None:
    [answered] = scene.turn(1).claimed
    scene.in_flight.clear()
    fail_for_a_while(scene)
    scene.owner.add(outcomes.answered(answered, Answer(text="so")))
    assert [one.state for one in scene.owner.settle()] == ["done"]
    assert scene.calls == ["renew", "beat", "settle"]


def test_after_an_outage_nothing_is_reaped_for_the_length_of_a_lease(
    scene: Scene, clock: list[float]
) -> None:
    others = scene.bridge.deliveries.claim("another home", {"main": 1}, scene.lease_ms)
    fail_for_a_while(scene)
    scene.now[0] += scene.lease_ms + 1
    assert scene.owner.renew() == []
    clock[0] += scene.lease_ms / 1000 - 1
    assert scene.owner.renew() == []
    assert "reap" not in scene.calls
    clock[0] += 1
    assert [one.message_id for one in scene.owner.renew()] == [others[0].message_id]


@pytest.mark.parametrize("shared", [True, False])
def test_of_a_shared_store_nothing_is_reaped_soon_after_a_start(
    scene: Scene, clock: list[float], tmp_path: Path, shared: bool
) -> None:
    home = Home(tmp_path)
    home.make_private()
    scene.owner.take_over(home, ["main"], shared=shared)
    scene.owner.renew()
    assert ("reap" in scene.calls) is not shared


def test_a_host_that_was_frozen_for_two_leases_finds_its_answer_lost(scene: Scene) -> None:
    [mine] = scene.turn(1).claimed
    scene.owner.add(outcomes.answered(mine, Answer(text="mine")))  # and it stands still
    scene.now[0] += 2 * scene.lease_ms
    deliveries = scene.bridge.deliveries
    assert [one.state for one in deliveries.reap()] == ["ready"]
    [theirs] = deliveries.claim("another home", {"main": 1}, scene.lease_ms)
    assert [(one.state, one.query) for one in scene.turn(0).settled] == [("lost", None)]
    deliveries.settle([outcomes.answered(theirs, Answer(text="theirs"))], "another home")
    answer = scene.bridge.messages.query_state(mine.message_id).answer
    assert answer and answer.text == "theirs"


def test_a_claim_that_a_server_commits_after_it_was_taken_for_lost_is_given_back(
    scene: Scene,
) -> None:
    scene.turn(1)
    scene.unreachable = True
    with pytest.raises(BridgeUnavailable):
        scene.turn(1)
    scene.unreachable = False
    assert len(scene.turn(0).claimed) == 0
    # Only now: the server had it waiting for a disk.
    scene.bridge.deliveries.claim(scene.owner.id, {"main": 1}, scene.lease_ms)
    assert scene.states() == ["leased", "leased", "ready"]
    scene.owner.renew()
    assert scene.states() == ["leased", "ready", "ready"]
    scene.calls.clear()
    scene.owner._late_until = lease_owner.time.monotonic() - 1
    scene.owner.renew()
    scene.owner.renew()
    assert scene.calls.count("release") == 1, "after a while nothing more can come"


def test_the_program_that_goes_on_keeps_what_was_handed_over_and_gives_back_the_rest(
    scene: Scene, tmp_path: Path
) -> None:
    [kept, _] = scene.turn(2).claimed
    scene.in_flight = [kept]
    before = scene.owner
    scene.owner = LeaseOwner(scene, scene, lambda: None)  # type: ignore[arg-type]
    scene.owner.go_on(before.id)
    home = Home(tmp_path)
    home.make_private()
    assert scene.owner.take_over(home, ["main"]) == 0
    assert scene.states() == ["leased", "leased", "ready"]
    scene.turn(0)
    assert scene.states() == ["leased", "ready", "ready"]
    scene.owner.add(outcomes.answered(kept, Answer(text="so")))
    assert [one.state for one in scene.turn(0).settled] == ["done"]
