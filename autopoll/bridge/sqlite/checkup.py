"""Whether the file is whole: its log, its tables, both ends of each, and as many pages as there is
time for.
"""

import time
from pathlib import Path

import apsw

from autopoll.bridge.sql.tables import TABLES
from autopoll.bridge.sqlite.connection import SqliteDatabase
from autopoll.errors import BridgeError

_WITHOUT_ROWID = {"budgets", "denials", "pollers", "usage"}
_LOG_HEAD = 32  # bytes
_LOG_MARKS = (0x377F0682, 0x377F0683)  # https://sqlite.org/fileformat2.html#walformat
_STEPS = 1_000  # of SQLite's machine between two looks at the time


class SqliteCheckup:
    """Looks for damage, changing nothing."""

    def __init__(self, db: SqliteDatabase) -> None:
        self._db = db

    def examine(self, seconds: float) -> bool:
        self._examine_log()
        rows = self._db.rows("SELECT name FROM sqlite_schema WHERE type='table' AND rootpage>0")
        tables = {name for (name,) in rows}
        if missing := {*TABLES} - tables:
            raise self._db.damaged(f"it has no table {', '.join(sorted(missing))}")
        # Where it begins and ends comes first: the end is where most is written, and what is cut.
        for name in sorted(tables.intersection(TABLES)):
            self._db.rows(f"SELECT 1 FROM {name} LIMIT 1")
            if name not in _WITHOUT_ROWID:
                self._db.rows(f"SELECT * FROM {name} WHERE rowid=(SELECT max(rowid) FROM {name})")
        return self._examine_pages(seconds)

    def _examine_log(self) -> None:
        """See that the log is one; SQLite takes anything else for an empty log."""
        try:
            with Path(f"{self._db.path}-wal").open("rb") as log:
                head = log.read(_LOG_HEAD)
        except OSError:  # there is none, or it is not ours to read
            return
        # Zeros may be what is left of a log that was never written.
        if head.strip(b"\0") and int.from_bytes(head[:4], "big") not in _LOG_MARKS:
            raise self._db.damaged("its log (-wal) is none, and what that held may be lost")

    def _examine_pages(self, seconds: float) -> bool:
        """Read through all trees of pages, as long as there is time."""
        end = time.monotonic() + seconds
        driver = self._db.driver
        driver.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        try:
            ((found,),) = self._db.rows("PRAGMA quick_check(1)")
        except BridgeError as error:
            if isinstance(error.__cause__, apsw.InterruptError):
                return False
            raise
        finally:
            driver.set_progress_handler(None)
        if found != "ok":
            raise self._db.damaged(" ".join(str(found).split()))
        return True
