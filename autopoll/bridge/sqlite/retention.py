"""The room in the file: what was removed stays in it, to be used again, until it is rewritten.

The file has no auto_vacuum: that keeps a page beside every thousand that says where each belongs,
and costs each new page a write more.
"""

from autopoll.bridge.sql.retention_store import SqlRetention
from autopoll.bridge.sqlite.connection import SqliteDatabase


class SqliteRetention(SqlRetention):
    """The RetentionStore."""

    _db: SqliteDatabase

    def free_bytes(self) -> int:
        return self._pages("freelist_count")

    def used_bytes(self) -> int:
        return self._pages("page_count") - self.free_bytes()

    def rewrite(self) -> None:
        self._db.rows("VACUUM")
        # It is in the log now, and the file is cut when that is copied.
        self._db.rows("PRAGMA wal_checkpoint(RESTART)")

    def _pages(self, name: str) -> int:
        [(pages,)] = self._db.rows(f"PRAGMA {name}")
        [(size,)] = self._db.rows("PRAGMA page_size")
        return int(pages * size)
