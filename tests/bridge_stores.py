"""The stores that the contract of the bridge is tested on, one for each engine."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sqlite import SqliteBridge, connection


class Clock:
    """Wall-clock milliseconds that move only when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


class SqliteStore:
    """One store: bridges are opened on it, and foreign programs speak SQL to it."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.path = folder / "bridge.db"
        self.bridges: list[SqliteBridge] = []

    def open(self, **given: Any) -> SqliteBridge:
        limits = BridgeLimits(**{"rate_per_s": 1e6, "rate_burst": 10**6, **given})
        bridge = SqliteBridge(self.path, limits, create=True, clock=self.clock)
        self.bridges.append(bridge)
        return bridge

    def foreign(self, sql: str, *values: Any) -> list[Any]:
        # Not the standard library's sqlite3: two copies of SQLite in one process take each other's
        # locks away (closing a file gives up all POSIX locks of the process) and ruin the file.
        db = apsw.Connection(str(self.path))
        db.set_busy_timeout(2000)
        rows = db.execute(sql, values).fetchall()
        db.close()
        return rows

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Keep every writer waiting, as a foreign program or a network can."""
        with closing(apsw.Connection(str(self.path))) as db:
            db.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def uncommitted(self, bridge: SqliteBridge, write: Callable[[], object]) -> Iterator[None]:
        """Have a bridge write in another thread, and commit it no sooner than the block ends."""
        begun, over = threading.Event(), threading.Event()

        def hold() -> bool:
            begun.set()
            return not over.wait(30)

        bridge._db.driver.set_commit_hook(hold)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert begun.wait(30)
            with pytest.MonkeyPatch.context() as others:
                others.setattr(connection, "BUSY_S", 0.1)
                yield
        finally:
            over.set()
            writer.join()
            bridge._db.driver.set_commit_hook(None)

    def close(self) -> None:
        for bridge in self.bridges:
            bridge.close()


ENGINES = {"sqlite": SqliteStore}
