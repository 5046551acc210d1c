"""Foreign commits are noticed at once, and our own cost no look, whatever comes together."""

import asyncio
import os
import select
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.errors import BridgeError, BridgeUnavailable
from autopoll.poller import foreign_writes
from autopoll.poller.foreign_writes import ForeignWrites

Run = Callable[[SqliteBridge, SqliteBridge, ForeignWrites, asyncio.Event], Awaitable[None]]


def on(folder: Path, run: Run) -> None:
    """Run with our bridge, another program's, and what notices the latter."""

    async def main() -> None:
        changed = asyncio.Event()
        path = folder / "bridge.db"
        with (
            closing(SqliteBridge(path, BridgeLimits(), create=True)) as ours,
            closing(SqliteBridge(path, BridgeLimits())) as other,
            closing(ForeignWrites(ours, changed.set)) as writes,
        ):
            ours.changed()
            writes.check()
            assert writes.trouble == ""
            async with asyncio.timeout(20):
                await run(ours, other, writes, changed)

    asyncio.run(main())


def test_a_commit_of_ours_is_dropped_and_leaves_few_looks_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_writes, "LATE_S", (0.001,))

    async def run(
        ours: SqliteBridge, other: SqliteBridge, writes: ForeignWrites, changed: asyncio.Event
    ) -> None:
        looks = []
        look = ours.changed
        monkeypatch.setattr(ours, "changed", lambda: looks.append(1) or look())
        for _ in range(50):
            ours.conversations.create("a", "b")
            writes.committed()
        assert writes._watch
        assert not select.select([writes._watch], [], [], 0)[0], "an event of ours is left"
        while writes._next_look:
            await asyncio.sleep(0.001)
        assert len(looks) == 2, "one for the first commit, and one for all after it"
        assert not changed.is_set()

    on(tmp_path, run)


def test_a_foreign_commit_whose_event_was_dropped_with_ours_is_seen_all_the_same(
    tmp_path: Path,
) -> None:
    async def run(
        ours: SqliteBridge, other: SqliteBridge, writes: ForeignWrites, changed: asyncio.Event
    ) -> None:
        ours.conversations.create("a", "b")
        other.conversations.create("c", "d")
        writes.committed()
        assert writes._watch
        assert not select.select([writes._watch], [], [], 0)[0]
        await changed.wait()

    on(tmp_path, run)


def test_what_a_commit_of_ours_hid_during_the_last_look_is_looked_for_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_writes, "LATE_S", (0.001,))

    async def run(
        ours: SqliteBridge, other: SqliteBridge, writes: ForeignWrites, changed: asyncio.Event
    ) -> None:
        seen = iter([False, True])  # begun before the first look, and visible after it
        monkeypatch.setattr(ours, "changed", lambda: next(seen))
        writes.committed()
        writes.committed()
        await changed.wait()

    on(tmp_path, run)


def test_a_foreign_commit_between_two_of_ours_wakes_by_its_event(tmp_path: Path) -> None:
    async def run(
        ours: SqliteBridge, other: SqliteBridge, writes: ForeignWrites, changed: asyncio.Event
    ) -> None:
        ours.conversations.create("a", "b")
        writes.committed()
        other.conversations.create("c", "d")
        await changed.wait()

    on(tmp_path, run)


class FailingWatch:
    """The watch of a server that ends the connection when it is first read from."""

    after_commit = True

    def __init__(self) -> None:
        self._near, self.far = os.pipe()
        self.failing = True

    def fileno(self) -> int:
        if self._near < 0:
            raise BridgeError("the watch was closed")
        return self._near

    def read(self) -> bool:
        if self.failing:
            self.close()
            raise BridgeUnavailable("the server has ended the connection")
        return bool(os.read(self._near, 100))

    def require_alive(self) -> None: ...

    def close(self) -> None:
        if self._near >= 0:
            os.close(self._near)
            self._near = -1


def test_a_watch_in_the_place_of_one_that_has_failed_is_waited_for_by_the_same_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_writes, "RETRY_S", 0.0)
    watches = [FailingWatch()]

    async def run(
        ours: SqliteBridge, _: SqliteBridge, writes: ForeignWrites, changed: asyncio.Event
    ) -> None:
        writes._close_watch(writes._watch)  # type: ignore[arg-type]
        monkeypatch.setattr(ours, "watch", lambda: watches[-1])
        writes.check()
        changed.clear()
        number = watches[0].fileno()
        os.write(watches[0].far, b"x")
        while writes._watch:
            await asyncio.sleep(0.001)
        watches.append(FailingWatch())
        watches[1].failing = False
        assert watches[1].fileno() == number
        writes.check()
        changed.clear()
        os.write(watches[1].far, b"x")
        await changed.wait()

    on(tmp_path, run)
    for each in watches:
        os.close(each.far)
