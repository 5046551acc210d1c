"""The stores that the contract of the bridge is tested on, one for each engine."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sqlite import SqliteBridge, connection


class Clock:
    """Wall-clock milliseconds that move only when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


class Store(ABC):
    """One store: bridges are opened on it, and foreign programs speak SQL to it."""

    clock: Clock

    def __init__(self) -> None:
        self._bridges: list[Bridge] = []

    def open(self, **given: Any) -> Bridge:
        """Open one more bridge on the store, with these limits."""
        limits = BridgeLimits(**{"rate_per_s": 1e6, "rate_burst": 10**6, **given})
        self._bridges.append(self._open(limits))
        return self._bridges[-1]

    def close(self) -> None:
        """Close all bridges."""
        for bridge in self._bridges:
            bridge.close()

    @abstractmethod
    def _open(self, limits: BridgeLimits) -> Bridge: ...

    @abstractmethod
    def foreign(self, sql: str, *values: Any) -> list[Any]:
        """Run a statement as a foreign program does, with ? for values, and commit it."""

    @abstractmethod
    def blocked(self) -> AbstractContextManager[None]:
        """Keep every writer waiting, as a foreign program or a network can."""

    @abstractmethod
    def uncommitted(
        self, bridge: Bridge, write: Callable[[], object]
    ) -> AbstractContextManager[None]:
        """Have a bridge write in another thread, and commit it no sooner than the block ends."""


class SqliteStore(Store):
    """A file of SQLite."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.clock = Clock()
        self.path = folder / "bridge.db"

    def _open(self, limits: BridgeLimits) -> SqliteBridge:
        return SqliteBridge(self.path, limits, create=True, clock=self.clock)

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
        with closing(apsw.Connection(str(self.path))) as db:
            db.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def uncommitted(self, bridge: Bridge, write: Callable[[], object]) -> Iterator[None]:
        assert isinstance(bridge, SqliteBridge)
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


ENGINES: dict[str, Callable[[Path], Store]] = {"sqlite": SqliteStore}
