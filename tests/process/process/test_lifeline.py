import asyncio
import os
import time
from collections.abc import Callable

from autopoll.process.lifeline import Lifeline


def watch(fd: int, act: Callable[[], None], seconds: float) -> tuple[int, float]:
    """Watch a descriptor, act, and return how often it was cut, and the CPU that took."""
    cuts = 0

    async def main() -> None:
        def cut() -> None:
            nonlocal cuts
            cuts += 1

        Lifeline(fd).attach(asyncio.get_running_loop(), cut)
        asyncio.get_running_loop().call_soon(act)
        await asyncio.sleep(seconds)

    before = time.process_time()
    asyncio.run(main())
    return cuts, time.process_time() - before


def test_a_cut_is_reported_once_and_the_loop_does_not_spin_on_it() -> None:
    near, far = os.pipe()
    cuts, cpu = watch(near, lambda: os.close(far), 0.3)
    assert cuts == 1
    assert cpu < 0.1
    os.close(near)


def test_what_is_typed_is_no_cut_and_is_taken_from_the_pipe() -> None:
    near, far = os.pipe()
    os.set_blocking(far, False)
    cuts, _ = watch(near, lambda: os.write(far, b"x" * 60_000) and None, 0.2)
    assert cuts == 0
    assert os.write(far, b"x" * 60_000) == 60_000
    os.close(near)
    os.close(far)


def test_by_hand_there_is_nothing_to_be_cut() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    assert watch(null, lambda: None, 0.05)[0] == 0
    os.close(null)
    assert watch(null, lambda: None, 0.05)[0] == 0  # not even a descriptor


def test_what_holds_on_stays_until_the_time_is_over_or_the_line_is_cut() -> None:
    near, far = os.pipe()
    os.write(far, b"typed")
    begun = time.monotonic()
    Lifeline(near).hold_on(0.2)
    assert time.monotonic() - begun >= 0.2
    os.close(far)
    Lifeline(near).hold_on(3600)
    os.close(near)
    Lifeline(near).hold_on(3600)  # by hand
    assert time.monotonic() - begun < 30
