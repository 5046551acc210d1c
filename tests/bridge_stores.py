"""The stores that the contract of the bridge is tested on, one for each engine."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sqlite import SqliteBridge, busy_handler

ENGINES = ("sqlite", "postgres")


class Clock:
    """Wall-clock milliseconds that move only when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


class Store(ABC):
    """One store: bridges are opened on it, and foreign programs speak SQL to it."""

    clock: Clock
    odd_values: Sequence[str]  # what a foreign program can write into any column, as SQL
    odd_texts: Sequence[tuple[str, str]]  # what it can write for a text, as SQL, and how it reads
    unreadable: Any  # a value that is no text, or is none that says anything

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

    def odd_rows(self, conversation: str) -> list[tuple[str, dict[str, Any]]]:
        """Return rows that a foreign program can write, by table, none of which is a question."""
        columns = ("conversation_id", "from_session", "to_session", "message")
        messages = [
            (conversation, "x", "zz", "for nobody"),
            (None, None, None, None),
            ("conv_gone", "a", "b", "in no conversation"),
        ]
        rows = [("messages", dict(zip(columns, row, strict=True))) for row in messages]
        return [*rows, ("conversations", {"id": ""})]

    @abstractmethod
    def refusing(self, table: str, condition: str = "TRUE") -> AbstractContextManager[None]:
        """Have the store refuse what is inserted into a table, under a condition on `new`."""

    @abstractmethod
    def keep_rows(self, table: str, condition: str) -> None:
        """Have the store silently keep what is deleted from a table, under a condition on `old`."""

    @abstractmethod
    def blocked(self) -> AbstractContextManager[None]:
        """Keep every writer waiting, as a foreign program or a network can."""

    @abstractmethod
    def uncommitted(
        self, bridge: Bridge, write: Callable[[], object]
    ) -> AbstractContextManager[None]:
        """Have a bridge write in another thread, and commit it no sooner than the block ends."""


class SqliteStore(Store):
    """A file of SQLite, where a column holds whatever is written into it."""

    odd_values = (
        "NULL", "x'ff00fe'", "x''", "12345", "1.5", "9223372036854775807", "'{'", "x'7b7d'",
        "CAST(x'7b227175657374696f6e223a22ff227d' AS TEXT)", "x'efbbbf7b7d'", "char(0)||'a'",
        "'{\"question\":\"q\",\"query_id\":' || printf('%.*c', 5000, '9') || '}'",
        "'{\"question\":\"q\",\"query_id\":1e400}'", "printf('%.*c', 60000, '[')",
    )  # fmt: skip
    odd_texts = tuple(
        (f"CAST({value} AS {kind})", text)
        for value, text in [
            ("NULL", ""),
            ("x''", ""),
            ("x'f09f9880'", "\U0001f600"),
            ("x'6e756c00696e73696465'", "nul\0inside"),
            ("x'eda080206c6f6e65'", "\ufffd\ufffd\ufffd lone"),
        ]
        for kind in ("TEXT", "BLOB")
    )
    unreadable = b"\xff\xfe"

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

    def odd_rows(self, conversation: str) -> list[tuple[str, dict[str, Any]]]:
        rows = super().odd_rows(conversation)
        bytes_ = [(table, dict.fromkeys(row, b"\xff")) for table, row in (rows[0], rows[-1])]
        return [*rows, *bytes_, ("conversations", {"id": None})]

    @contextmanager
    def refusing(self, table: str, condition: str = "TRUE") -> Iterator[None]:
        self.foreign(
            f"CREATE TRIGGER refuse BEFORE INSERT ON {table} WHEN {condition}"
            " BEGIN SELECT RAISE(ABORT, 'not in here'); END"
        )
        yield
        self.foreign("DROP TRIGGER refuse")

    def keep_rows(self, table: str, condition: str) -> None:
        self.foreign(
            f"CREATE TRIGGER keep BEFORE DELETE ON {table} WHEN {condition}"
            " BEGIN SELECT RAISE(IGNORE); END"
        )

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
                others.setattr(busy_handler, "BUSY_S", 0.1)
                yield
        finally:
            over.set()
            writer.join()
            bridge._db.driver.set_commit_hook(None)
