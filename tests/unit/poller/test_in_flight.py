"""Each question that was sent ends with one outcome, whatever its worker does."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from autopoll.bridge.records import Answered, Delivery, Failed, Outcome, Released, Settled
from autopoll.clock import Duration
from autopoll.home.config import Config, ShardSection
from autopoll.home.home import Home
from autopoll.poller import attempt as attempt_module
from autopoll.poller.in_flight import NO_FENCE, InFlight
from autopoll.poller.partial_answers import PartialAnswers
from autopoll.request import Progress
from fifo.exceptions import NoCredit, NotConnected, TooLarge

CLAIMED_AT = 0.0
BEGUN = msgspec.msgpack.encode(Progress())


class Scene:
    """Questions in flight to a worker that notes what is done with it."""

    def __init__(self, home: Home, limit_s: float = 60.0) -> None:
        self.outcomes: list[Outcome] = []
        self.working: list[int] = []
        self.texts: list[str] = []
        self.calls: list[tuple[Any, ...]] = []
        self.refusal: Exception | None = None
        self.held: set[int] = set()
        self.renewed: list[int] = []
        self.reaped: list[Settled] = []
        section = ShardSection(backend="echo", request_timeout=Duration(limit_s))
        self.in_flight = InFlight(
            home,
            Config(shards={"main": section}),
            self,  # type: ignore[arg-type]  # its workers
            SimpleNamespace(  # type: ignore[arg-type]
                working=lambda delivery: self.working.append(delivery.message_id),
                text=lambda delivery, text: self.texts.append(text),
            ),
            PartialAnswers(redacting=False),
            self.outcomes.append,
        )

    # what it asks of workers

    def with_most_credits(self, shard: str) -> str:
        return "worker"

    def pid(self, worker: str) -> int:
        return 7

    def send(self, worker: str, request_id: int, payload: bytes) -> None:
        if self.refusal:
            raise self.refusal
        self.calls.append(("send", request_id))

    def cancel(self, worker: str, request_id: int) -> None:
        self.calls.append(("cancel", request_id))

    def disconnect(self, worker: str, reason: str) -> None:
        self.calls.append(("disconnect", worker))

    # what it asks of deliveries

    def renew(self, leases: list[tuple[int, int]], owner: str, lease_ms: int) -> set[int]:
        *mine, unsettled = [number for number, _ in leases]
        assert unsettled == 99
        self.renewed = mine
        return self.held.intersection(self.renewed)

    def reap(self) -> list[Settled]:
        return self.reaped

    def renew_leases(self) -> list[Settled]:
        self.in_flight.renew_leases(self, "me", [(99, 1)])  # type: ignore[arg-type]
        return self.in_flight.reap(self)  # type: ignore[arg-type]


def question(number: int, text: str | None = "why?") -> Delivery:
    return Delivery(
        message_id=number, conversation="c", session="b", shard="main", lane=f"m{number}",
        text=text, metadata=None, fence=3, attempt=1, enrolled_at=0,
    )  # fmt: skip


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


@pytest.fixture
def on(tmp_path: Path) -> Callable[..., None]:
    """Run a test on a scene of its own, in a loop of its own."""
    home = Home(tmp_path)
    home.make_private()

    def run(test: Callable[[Scene], Awaitable[None]], **more: float) -> None:
        async def main() -> None:
            await test(Scene(home, **more))

        asyncio.run(main())

    return run


@pytest.mark.parametrize("refusal", [NoCredit("full", "Wait."), NotConnected("gone", "Wait.")])
def test_what_a_worker_does_not_take_is_given_back(on, refusal: Exception) -> None:
    async def test(scene: Scene) -> None:
        scene.refusal = refusal
        scene.in_flight.send(question(7), CLAIMED_AT)
        assert scene.outcomes == [Released(message_id=7, fence=3)]
        assert not scene.in_flight

    on(test)


@pytest.mark.parametrize("text", ["", None, "larger than a frame"])
def test_what_no_worker_could_be_asked_is_answered_with_why(on, text: str | None) -> None:
    async def test(scene: Scene) -> None:
        scene.refusal = TooLarge("larger than a frame", "Send it in parts.")
        scene.in_flight.send(question(7, text), CLAIMED_AT)
        [outcome] = scene.outcomes
        assert isinstance(outcome, Answered) and outcome.answer.error
        assert not scene.in_flight

    on(test)


def test_a_worker_that_keeps_a_cancelled_question_fails_it_and_gives_the_others_back(
    on, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_module, "CANCEL_GRACE_S", 0.05)

    async def test(scene: Scene) -> None:
        scene.in_flight.send(question(7), CLAIMED_AT)
        scene.in_flight.send(question(8), CLAIMED_AT)
        scene.in_flight.progress(1, BEGUN)
        await until(lambda: scene.outcomes)
        assert scene.calls[2:] == [("cancel", 1), ("disconnect", "worker")]
        failed, released = scene.outcomes
        assert isinstance(failed, Failed) and failed.message_id == 7
        assert isinstance(released, Released) and released.message_id == 8
        assert scene.in_flight.remove(1) is None, "a late reply is nobody's"

    on(test, limit_s=0.1)


def test_an_outcome_says_who_made_the_attempt_and_when(on) -> None:
    async def test(scene: Scene) -> None:
        scene.in_flight.send(question(7), CLAIMED_AT)
        scene.in_flight.progress(1, BEGUN)
        for piece in ("first", "second"):
            scene.in_flight.progress(1, msgspec.msgpack.encode(Progress(piece=piece)))
        scene.in_flight.worker_died("worker", "was killed", [1])
        [failed] = scene.outcomes
        times = failed.times
        assert times is not None and (times.worker, times.pid) == ("worker", 7)
        assert times.begun is not None
        assert times.claimed == CLAIMED_AT < times.sent <= times.begun <= times.ended
        assert times.piece is not None and times.begun <= times.piece <= times.ended
        assert (times.host, times.home) == (None, None)  # of a store that no other home shares

    on(test)


def test_an_asker_learns_once_that_work_has_begun_if_the_answer_takes_long(on) -> None:
    async def test(scene: Scene) -> None:
        scene.in_flight.send(question(7), CLAIMED_AT)
        scene.in_flight.progress(1, BEGUN)
        assert scene.working == []
        await until(lambda: scene.working)
        scene.in_flight.progress(1, b"\xc1 not MessagePack")
        assert scene.working == [7]

    on(test)


def test_a_lost_lease_cancels_its_question_once_and_keeps_its_slot(on) -> None:
    async def test(scene: Scene) -> None:
        scene.in_flight.send(question(7), CLAIMED_AT)
        scene.in_flight.send(question(8), CLAIMED_AT)
        scene.held = {8}
        scene.renew_leases()
        scene.renew_leases()
        assert scene.renewed == [8]
        assert scene.calls[2:] == [("cancel", 1)]
        assert (len(scene.in_flight), scene.outcomes) == (2, [])

    on(test)


def test_what_comes_after_a_lease_was_lost_is_settled_under_no_lease(on) -> None:
    async def test(scene: Scene) -> None:
        scene.in_flight.send(question(7), CLAIMED_AT)
        scene.renew_leases()
        assert scene.in_flight.leases() == []
        scene.in_flight.worker_died("worker", "was killed", [1])
        [outcome] = scene.outcomes
        # Not 3: the store may have lost the question, and given all of that to another one.
        assert (outcome.message_id, outcome.fence) == (7, NO_FENCE)

    on(test)


def test_a_question_that_was_reaped_is_cancelled_once_and_reported(on) -> None:
    async def test(scene: Scene) -> None:
        scene.in_flight.send(question(7), CLAIMED_AT)
        scene.in_flight.send(question(8), CLAIMED_AT)
        scene.held = {7, 8}
        scene.reaped = [Settled(message_id=7, state="ready")]
        assert scene.renew_leases() == scene.reaped
        scene.renew_leases()
        assert scene.renewed == [8]
        assert scene.calls[2:] == [("cancel", 1)]
        assert (len(scene.in_flight), scene.outcomes) == (2, [])

    on(test)


def test_a_lease_is_renewed_no_longer_than_a_question_may_take(
    on, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_module, "CANCEL_GRACE_S", 0.05)

    async def test(scene: Scene) -> None:
        scene.in_flight.send(question(7), CLAIMED_AT)
        scene.held = {7}

        def renewed() -> list[int]:
            scene.renew_leases()
            return scene.renewed

        assert renewed() == [7]
        await until(lambda: not renewed())
        assert scene.calls[1:] == [], "it is past its time, and not yet somebody else's"
        scene.reaped = [Settled(message_id=7, state="ready")]
        scene.renew_leases()
        assert scene.calls[1:] == [("cancel", 1)]

    on(test, limit_s=0.1)


def test_only_what_a_dead_worker_had_begun_has_failed(on) -> None:
    async def test(scene: Scene) -> None:
        for number in (7, 8, 9):
            scene.in_flight.send(question(number), CLAIMED_AT)
        scene.in_flight.progress(1, BEGUN)
        scene.in_flight.worker_died("worker", "was killed", [1, 2])
        failed, released = scene.outcomes
        assert isinstance(failed, Failed) and failed.error == "worker-died: worker was killed"
        assert isinstance(released, Released) and released.message_id == 8
        scene.in_flight.release_all()
        [left] = scene.outcomes[2:]
        assert isinstance(left, Released) and left.message_id == 9
        assert not scene.in_flight

    on(test)
