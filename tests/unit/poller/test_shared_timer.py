"""One timer for many deadlines."""

import asyncio
from math import inf

import pytest

from autopoll.poller.shared_timer import SharedTimer


class Deadlines:
    """What a poller does with its attempts: look at those that are due, and return the next."""

    def __init__(self) -> None:
        self.moments: dict[str, float] = {}
        self.reached: list[tuple[str, float]] = []
        self.looks = 0
        self.none_left = asyncio.Event()
        self.timer = SharedTimer(self.look)
        self.loop = asyncio.get_running_loop()

    def add(self, name: str, seconds: float) -> None:
        self.moments[name] = self.loop.time() + seconds
        self.timer.fire_by(self.moments[name])

    def look(self) -> float:
        self.looks += 1
        now = self.loop.time()
        for name in [name for name, moment in self.moments.items() if moment <= now]:
            self.reached.append((name, now - self.moments.pop(name)))
        if not self.moments:
            self.none_left.set()
        return min(self.moments.values(), default=inf)


def test_each_deadline_is_reached_in_its_order_and_none_before_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments: list[float] = []

    async def run() -> Deadlines:
        deadlines = Deadlines()
        call_at = deadlines.loop.call_at

        def noting(when: float, *args: object, **more: object) -> asyncio.TimerHandle:
            moments.append(when)
            return call_at(when, *args, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(deadlines.loop, "call_at", noting)
        deadlines.add("late", 0.06)
        deadlines.add("early", 0.02)
        deadlines.add("middle", 0.04)
        deadlines.add("at once", -1.0)
        wanted = dict(deadlines.moments)
        await asyncio.wait_for(deadlines.none_left.wait(), 10)
        # An earlier one takes the timer over, a later one leaves it. What a busy machine reaches
        # together it reaches in one look, so that only the first three are sure.
        timers = [moment for moment in moments if moment in wanted.values()]
        assert timers[:3] == [wanted["late"], wanted["early"], wanted["at once"]]
        return deadlines

    deadlines = asyncio.run(run())
    assert {name for name, _ in deadlines.reached} == {"at once", "early", "middle", "late"}
    assert all(delay >= 0 for _, delay in deadlines.reached)


def test_a_thousand_deadlines_that_pass_unneeded_cost_one_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> tuple[Deadlines, int]:
        deadlines = Deadlines()
        timers, call_at = 0, deadlines.loop.call_at

        def counting(*args: object) -> asyncio.TimerHandle:
            nonlocal timers
            timers += 1
            return call_at(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(deadlines.loop, "call_at", counting)
        for number in range(1000):
            deadlines.add(str(number), 0.05)
            del deadlines.moments[str(number)]
        deadlines.add("kept", 0.06)
        await deadlines.none_left.wait()
        return deadlines, timers

    deadlines, timers = asyncio.run(asyncio.wait_for(run(), 10))
    assert [name for name, _ in deadlines.reached] == ["kept"]
    assert timers <= 4  # the first, one more for what it found left, and two the clock may cost
    assert deadlines.looks <= 3


def test_a_timer_that_was_set_for_what_is_over_can_be_set_again() -> None:
    async def run() -> Deadlines:
        deadlines = Deadlines()
        for name in ("first", "second"):
            deadlines.none_left.clear()
            deadlines.add(name, 0.01)
            await asyncio.wait_for(deadlines.none_left.wait(), 10)
        return deadlines

    assert [name for name, _ in asyncio.run(run()).reached] == ["first", "second"]
