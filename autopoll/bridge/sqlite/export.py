"""All rows of a file, for another engine to store."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import apsw

from autopoll.bridge.sqlite import schema
from autopoll.bridge.sqlite.driver_errors import explain
from autopoll.bridge.sqlite.filesystem import refuse_network
from autopoll.errors import BridgeBusy, BridgeError
from autopoll.home.lock import acquire

_PATIENCE_MS = 1000  # for the commit of another program that is under way
# What is not copied as it stands. No poller lives, as the lock proves: nobody holds a lease, and an
# attempt that was not finished does not count. What is in `read`, and is not 0, means read.
_EXPRESSIONS = {
    ("deliveries", "state"): "CASE state WHEN 'leased' THEN 'ready' ELSE state END",
    ("deliveries", "owner"): "NULL",
    ("deliveries", "lease_until"): "NULL",
    ("deliveries", "attempts"): "attempts-(state='leased')",
    ("messages", "read"): "CASE WHEN read=0 THEN 0 WHEN read IS NOT NULL THEN 1 END",
    ("pollers", "beat_until"): "min(beat_until, CAST(unixepoch('subsec')*1000 AS INTEGER))",
    ("conversations", "number"): "row_number() OVER (ORDER BY rowid)",
}
# Columns that an earlier schema lacked, as its migration fills them.
_EARLIER = {
    ("pollers", "folder"): "''",
    ("pollers", "shards"): "'[]'",
    ("pollers", "beat_at"): "beat_until",
}
_DROPPED = {("deliveries", "waiter")}  # of earlier schemas, and of no use any more
# A row whose key is no text is found by nobody under a name.
_KEYS = {"conversations": ("id",), "session_status": ("conversation_id", "session_id")}


class SqliteExport:
    """A file that nobody writes into until `close`, and that is left as it is.

    It may be of an earlier schema. Raises AlreadyRunning while a poller answers for the file,
    BridgeBusy while another program writes into it, BridgeError for a file that cannot be used.
    """

    keys = _KEYS

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        if not self.path.is_file():
            raise BridgeError(f"there is no bridge at {self.path}", "Check the url of the source.")
        refuse_network(self.path)
        with ExitStack() as opened:
            lock = self.path.with_name(f"{self.path.name}-poller.lock")
            opened.callback(os.close, acquire(lock, f"a poller of {self.path}"))
            with self._explained():
                self._db = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
            opened.callback(self._db.close)
            self._keep_out_writers()
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Let others write again; tolerated twice."""
        self._opened.close()

    def count(self, table: str) -> int:
        """Return how many rows a table has, 0 for one that is not there."""
        if not self._columns(table):
            return 0
        [(number,)] = self._rows(f"SELECT count(*) FROM {table}")
        return int(number)

    def last_number(self, table: str) -> int:
        """Return the greatest number that a row of a table has or has had; 0 for none."""
        if not self._columns(table):
            return 0
        [(last,)] = self._rows(f"SELECT max(rowid) FROM {table}")
        kept = self._columns("sqlite_sequence") and self._rows(
            "SELECT max(seq) FROM sqlite_sequence WHERE name=?", (table,)
        )
        return max(0, last or 0, (kept and kept[0][0]) or 0)

    def rows(
        self, table: str, columns: Sequence[str], texts: Collection[str]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a table, one by one; the columns in `texts` as bytes.

        Those that the file lacks are NULL. Rows that nobody finds by their key are left out.
        """
        there = self._columns(table)
        if not there:
            return
        wanted = []
        for name in columns:
            known = _EXPRESSIONS.get((table, name)) or (name if name in there else None)
            value = known or _EARLIER.get((table, name), "NULL")
            wanted.append(f"CAST({value} AS BLOB)" if name in texts else value)
        found = " AND ".join(f"typeof({key})='text'" for key in _KEYS.get(table, ())) or "TRUE"
        query = f"SELECT {', '.join(wanted)} FROM {table} WHERE {found}"
        with self._explained(), closing(self._db.execute(query)) as cursor:
            yield from cursor

    def unknown(self, known: Mapping[str, Collection[str]]) -> list[str]:
        """Return the tables and columns beyond the `known` ones: other programs' own."""
        names = [
            name for (name,) in self._rows("SELECT name FROM sqlite_schema WHERE type='table'")
        ]
        found = []
        for table in sorted(names):
            if table in known:
                beyond = [each for each in self._columns(table) if each not in known[table]]
                found += [f"{table}.{each}" for each in beyond if (table, each) not in _DROPPED]
            elif not table.startswith("sqlite_"):
                found.append(table)
        return found

    def _keep_out_writers(self) -> None:
        # Else what the log holds is written into the file by whoever closes it last.
        self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._db.set_busy_timeout(_PATIENCE_MS)
        try:
            self._rows("BEGIN IMMEDIATE")
        except BridgeBusy as error:
            raise BridgeBusy(
                f"another program writes into {self.path}",
                "Stop it; `fuser` names the programs that have the file open.",
            ) from error
        with self._explained():
            version = schema.version(self._db, self.path)
        if version > schema.KNOWN:
            schema.require_current(version, self.path)
        if not self._columns("messages"):
            raise BridgeError(f"{self.path} holds no bridge", "Check the url of the source.")

    def _columns(self, table: str) -> list[str]:
        return [name for (name,) in self._rows("SELECT name FROM pragma_table_info(?)", (table,))]

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._explained():
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            code = self._db.system_errno if "_db" in vars(self) else 0
            raise explain(error, self.path, code) from error
