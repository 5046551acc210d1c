"""Steps that are run every so many seconds, whatever else wakes the loop."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from autopoll.poller.schedule import Schedule


class Turns:
    """A loop that takes a turn whenever it is woken, and notes which steps have run."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self._woken = asyncio.Event()
        self.schedule = Schedule(self._woken.set)

    def step(self, name: str) -> Callable[[], None]:
        return lambda: self.ran.append(name)

    async def until(self, name: str, count: int) -> None:
        async with asyncio.timeout(10):
            while self.ran.count(name) < count:
                await self._woken.wait()
                self._woken.clear()
                self.schedule.run_due()


def test_a_step_runs_in_the_next_turn_and_then_in_its_own_time() -> None:
    async def run() -> None:
        turns = Turns()
        turns.schedule.every(0.01, turns.step("often"))
        turns.schedule.every(60.0, turns.step("seldom"))
        await turns.until("often", 4)
        assert turns.ran[:2] == ["often", "seldom"]
        assert turns.ran.count("seldom") == 1
        turns.schedule.run_due()
        assert turns.ran.count("often") == 4, "a turn for another reason runs nothing early"
        turns.schedule.close()

    asyncio.run(run())


def test_a_step_that_is_known_is_run_in_a_new_time_from_now_on() -> None:
    async def run() -> None:
        turns = Turns()
        step = turns.step("leases")
        turns.schedule.every(60.0, step)
        await turns.until("leases", 1)
        turns.schedule.every(0.01, step)
        await turns.until("leases", 4)

    asyncio.run(run())


def test_a_timer_that_fires_before_its_time_does_not_end_the_schedule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def early(when: float, *args: Any) -> asyncio.TimerHandle:
            return call_at(when - 0.0005, *args)

        monkeypatch.setattr(loop, "call_at", early)
        turns = Turns()
        turns.schedule.every(0.01, turns.step("often"))
        await turns.until("often", 4)

    asyncio.run(run())


def test_a_step_that_raises_holds_up_no_other_and_is_tried_again() -> None:
    async def run() -> None:
        turns = Turns()
        failing = iter([True, False])

        def step() -> None:
            turns.ran.append("failing")
            if next(failing, False):
                raise RuntimeError

        turns.schedule.every(0.01, step)
        turns.schedule.every(60.0, turns.step("other"))
        with pytest.raises(RuntimeError):
            turns.schedule.run_due()
        await turns.until("other", 1)
        await turns.until("failing", 2)
        turns.schedule.close()

    asyncio.run(run())
