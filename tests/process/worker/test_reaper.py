"""Forgotten children are reaped; the exit status that somebody waits for is not taken."""

import asyncio
import os
import signal
import sys
import time

import pytest

from autopoll.process.proc_stat import all_stats, read_stat
from autopoll.worker import reaper


def is_zombie(pid: int) -> bool:
    reading = read_stat(pid)
    return reading is not None and reading.zombie


async def gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while read_stat(pid) is not None:
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper, "_RESPITE_S", 0.3)


def test_a_forgotten_child_is_reaped_and_one_that_just_ended_is_not() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reaper.attach(loop)
        forgotten = os.posix_spawn("/bin/true", ["true"], {})
        os.waitid(os.P_PID, forgotten, os.WEXITED | os.WNOWAIT)  # it has ended, and stays
        living = os.posix_spawn("/bin/sleep", ["sleep", "0.1"], {})
        os.kill(os.getpid(), signal.SIGUSR2)
        await gone(forgotten)
        async with asyncio.timeout(10):
            while not is_zombie(living):  # nor is it reaped when it ends
                await asyncio.sleep(0.01)
        assert os.waitpid(living, 0) == (living, 0)

    asyncio.run(main())


def test_what_ends_while_the_loop_is_stuck_is_left_to_asyncio_which_waits_for_it() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reaper.attach(loop)
        exit_7 = "import sys; sys.exit(7)"
        children = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", exit_7) for _ in range(5)
        ]
        os.kill(os.getpid(), signal.SIGUSR2)
        stuck = time.monotonic()
        while time.monotonic() - stuck < 0.4:  # all of them end meanwhile
            pass
        assert [await child.wait() for child in children] == [7] * 5
        await asyncio.sleep(0.4)

    asyncio.run(main())
    assert not [each for each in all_stats() if each.zombie and each.parent == os.getpid()]
