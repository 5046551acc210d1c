"""What wakes the loop of the poller, and what comes between two of its turns."""

import asyncio
import os
from contextlib import closing
from pathlib import Path

from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.home.home import Home
from autopoll.poller.wakers import Wakers
from fifo import bell


def test_a_turn_that_wakes_the_next_one_does_not_keep_the_pipes_waiting(tmp_path: Path) -> None:
    async def run(home: Home, bridge: SqliteBridge) -> None:
        with closing(Wakers(home, bridge, lambda: None, lambda: wakers.wake())) as wakers:
            reader, writer = os.pipe()
            read = asyncio.Event()
            asyncio.get_running_loop().add_reader(reader, read.set)
            os.write(writer, b"!")
            async with asyncio.timeout(10):
                while not read.is_set():
                    wakers.wake()
                    await wakers.wait()
            asyncio.get_running_loop().remove_reader(reader)
            os.close(reader)
            os.close(writer)

    on(tmp_path, run)


def test_the_bell_and_a_foreign_write_wake_the_loop(tmp_path: Path) -> None:
    async def run(home: Home, bridge: SqliteBridge) -> None:
        rung: list[None] = []

        def on_bell() -> None:
            rung.append(None)
            wakers.wake()

        with (
            closing(Wakers(home, bridge, on_bell, lambda: wakers.wake())) as wakers,
            closing(SqliteBridge(home.var / "bridge.db", BridgeLimits())) as other,
        ):
            wakers.check()
            assert wakers.trouble == ""
            async with asyncio.timeout(10):
                bell.ring(home.bell)
                await wakers.wait()
                assert rung
                other.conversations.create("one", "two")
                await wakers.wait()

    on(tmp_path, run)


def on(root: Path, run) -> None:
    home = Home(root)
    home.make_private()
    with closing(SqliteBridge(home.var / "bridge.db", BridgeLimits(), create=True)) as bridge:
        asyncio.run(run(home, bridge))
