"""The room in the file: what was removed stays in it, to be used again, until it is rewritten.

The file has no auto_vacuum: that keeps a page beside every thousand that says where each belongs,
and costs each new page a write more.
"""

from autopoll.bridge.retention_protocol import Ages, SweepPlace, SweepStep
from autopoll.bridge.sql.retention_store import SqlRetention
from autopoll.bridge.sqlite.connection import SqliteDatabase
from autopoll.errors import BridgeFull
from autopoll.home import disk_space


class SqliteRetention(SqlRetention):
    """The RetentionStore."""

    _db: SqliteDatabase

    def sweep(
        self, ages: Ages, place: SweepPlace, most: int, *, dry_run: bool = False
    ) -> SweepStep:
        step = super().sweep(ages, place, most, dry_run=dry_run)
        if step.removed.rows and not dry_run:
            # A removal changes many pages. Together they would have some commit copy 14 MB from the
            # log, for 100 ms and more; these few are copied in a wait for the disk.
            self._db.rows("PRAGMA wal_checkpoint(PASSIVE)")
        return step

    def free_bytes(self) -> int:
        return self._pages("freelist_count")

    def used_bytes(self) -> int:
        return self._pages("page_count") - self.free_bytes()

    def rewrite(self) -> None:
        # Once beside it and once in the log; who answers meanwhile needs room, too.
        if short := disk_space.shortage_for(self._db.path.parent, 2 * self.used_bytes()):
            raise BridgeFull(f"no room to rewrite {self._db.path}: {short}")
        self._db.rows("VACUUM")
        # It is in the log now, and the file is cut when that is copied.
        self._db.rows("PRAGMA wal_checkpoint(RESTART)")

    def _pages(self, name: str) -> int:
        [(pages,)] = self._db.rows(f"PRAGMA {name}")
        [(size,)] = self._db.rows("PRAGMA page_size")
        return int(pages * size)
