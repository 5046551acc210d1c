"""The connection: how the file is opened, how transactions run, and how a driver's errors read."""

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sqlite import schema
from autopoll.bridge.sqlite.filesystem import refuse_network
from autopoll.clock import wall_ms
from autopoll.errors import BridgeBusy, BridgeError, BridgeFull, RowRefused

Row = tuple[Any, ...]
Values = Sequence[Any] | Mapping[str, Any]

BUSY_S = 2.0  # how long a lock is waited for; the poller's loop stands still meanwhile
WAL_LIMIT = 16 << 20  # bytes; beyond it the log is cut back as soon as no reader needs it
# Pages (4 KiB and a head) after which whoever commits copies the log into the database, some two
# waits for the disk. With SQLite's own 1000 that was one question in sixty, and the p99 of all.
_LOG_PAGES = 3500
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Store:
    """One connection to the database file at `path`.

    `clock` returns wall-clock milliseconds. Raises BridgeError when the file is missing (unless
    `create`), unreadable, corrupt, on a network file system, or of another schema version.
    """

    def __init__(
        self,
        path: Path,
        limits: BridgeLimits,
        *,
        create: bool = False,
        read_only: bool = False,
        clock: Callable[[], int] = wall_ms,
    ) -> None:
        # The true path, because the log lies beside the file and not beside a link to it.
        self.path = path.resolve()
        self.limits = limits
        self.clock = clock
        self._durable: bool | None = None
        self._prepare_file(create)
        with self._explained():
            self._db = self._connect(read_only)
        try:
            with self._explained():
                version = schema.version(self._db, self.path)
            if read_only:
                schema.require_current(version, self.path)
            elif version != schema.KNOWN:
                with self._explained():
                    schema.migrate(self._db, self.path)
            self._seen = self._data_version()
            self._opened = self._files()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Let go of the file; tolerated twice."""
        self._db.close()

    def changed(self) -> bool:
        """Tell whether another connection committed since the last call; own commits do not count.

        Takes no lock; measured at 15 us.
        """
        seen, self._seen = self._seen, self._data_version()
        return seen != self._seen

    def require_in_place(self) -> None:
        """Raise BridgeError when the database, or what belongs to it, was replaced or removed.

        Whoever opens it from then on sees another store than we do, and neither knows.
        """
        found = self._files()
        for name, inode in self._opened.items():
            if found.get(name) != inode:
                raise BridgeError(
                    f"{name} was {'replaced' if name in found else 'removed'} while it was open",
                    "Take the home down before a backup is put back; what was written since is in "
                    "the file that was there before.",
                )

    def _files(self) -> dict[str, int]:
        """Return the inode of each file of the database that lies at its place.

        While we have it open, the log and its index stay; SQLite removes them with its last user.
        """
        found = {}
        for name in (str(self.path), f"{self.path}-wal", f"{self.path}-shm"):
            with suppress(FileNotFoundError):
                found[name] = os.stat(name).st_ino  # noqa: PTH116 - a Path a second is garbage
        return found

    def _prepare_file(self, create: bool) -> None:
        refuse_network(self.path)
        if create:
            try:
                # Made here and not by SQLite, because the log and its index copy the file's mode.
                handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            except FileExistsError:
                return
            except OSError as error:
                raise BridgeError(
                    f"cannot create the bridge {self.path}: {error.strerror}",
                    "Check that the folder exists and that you may write to it.",
                ) from error
            os.close(handle)
        elif not self.path.exists():
            raise BridgeError(
                f"there is no bridge at {self.path}",
                "Create it with: autopoll init, or check [bridge] url in autopoll.toml.",
            )
        elif self.path.is_file() and self.path.stat().st_size == 0:
            raise BridgeError(
                f"{self.path} is empty: what was in it is lost",
                "Stop all that use it (autopoll down), and restore a backup; without one, make it"
                " anew: autopoll up",
            )

    def _connect(self, read_only: bool) -> apsw.Connection:
        mode = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
        db = apsw.Connection(str(self.path), flags=mode)
        # First of all, because turning the log on may already meet another program's lock.
        db.set_busy_handler(Patience())
        # Else SQLite plans a join anew at each run to look at the values bound to it: 70 us, not 4.
        db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        if not read_only:
            if db.pragma("journal_mode", "wal") != "wal":
                db.close()
                raise BridgeError(
                    f"the file system of {self.path} has no shared memory for SQLite's log",
                    "Move the bridge to a local disk.",
                )
            db.pragma("journal_size_limit", WAL_LIMIT)  # room that is kept need not be made again
            db.pragma("wal_autocheckpoint", _LOG_PAGES)
        return db

    def _cut_log(self, limit: int) -> None:
        """Empty the log when it is longer than `limit` bytes and no reader needs it."""
        log = Path(f"{self.path}-wal")
        if not log.exists() or log.stat().st_size <= limit:
            return
        self._db.set_busy_handler(None)  # a reader may go on for long
        try:
            self._rows("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._db.set_busy_handler(Patience())

    def _data_version(self) -> int:
        with self._explained():
            version: int = self._db.pragma("data_version")
        return version

    def _rows(self, sql: str, values: Values = ()) -> list[Row]:
        """Return all rows, so that no cursor is open when its transaction commits."""
        try:  # and no context manager, which costs as much as the statement of a short one
            return self._db.execute(sql, values).fetchall()
        except apsw.Error as error:
            raise self._explain(error) from error

    def _many(self, sql: str, rows: Sequence[Values]) -> None:
        """Run a statement once for each row of values."""
        if rows:
            with self._explained():
                self._db.executemany(sql, rows)

    @contextmanager
    def _writing(self, *, durable: bool = True) -> Iterator[None]:
        """Run the block in one transaction that is committed at its end or leaves no trace.

        IMMEDIATE always: a reader that turns writer after someone else's commit is refused at once.
        A commit that is not `durable` survives kill -9 but not a power cut; it spares an fsync.
        """
        try:
            if self._durable != durable:
                self._rows(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._rows("BEGIN IMMEDIATE")
            yield
            self._rows("COMMIT")
        except BridgeFull:
            self._roll_back()
            # The log is the one thing that can be given back; the next try may find room then.
            with suppress(BridgeError):
                self._cut_log(0)
            raise
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # a full disk has rolled back already
            with suppress(apsw.Error):
                self._db.execute("ROLLBACK")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Translate the driver's errors; the one place that knows them."""
        try:
            yield
        except apsw.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: apsw.Error) -> BridgeError:
        match error:
            case apsw.BusyError() | apsw.LockedError():
                return BridgeBusy(
                    f"{self.path} is locked by another program",
                    "Try again; `fuser` names the programs that have it open.",
                )
            case apsw.FullError():
                return self._full()
            case apsw.IOError() if self._errno in _NO_ROOM:
                return self._full()
            case apsw.ReadOnlyError():
                what = f"{self.path} or its folder is read-only"
                return BridgeError(what, "Give this user the right to write to both.")
            case apsw.NotADBError():
                what = f"{self.path} is not an SQLite database, or is encrypted"
                return BridgeError(what, "Move it away, or check [bridge] url in autopoll.toml.")
            case apsw.CorruptError():
                return self._damaged(str(error))
            case apsw.CantOpenError() | apsw.PermissionsError() | apsw.AuthError():
                what = f"cannot open {self.path}: {error}"
                return BridgeError(
                    what, "Check that it is a file and that this user may use it and its folder."
                )
            case apsw.IOError():
                reason = os.strerror(self._errno) if self._errno else str(error)
                return BridgeError(f"cannot read or write {self.path}: {reason}", "Check the disk.")
            case apsw.ConstraintError() | apsw.MismatchError() | apsw.TooBigError():
                return RowRefused(f"{self.path}: {error}", "Was its schema changed?")
            case apsw.ConnectionClosedError():
                return BridgeError(f"{self.path} was closed")
        return BridgeError(f"{self.path}: {error}", "Was its schema changed by another program?")

    def _damaged(self, how: str) -> BridgeError:
        return BridgeError(
            f"{self.path} is damaged: {how}",
            "Stop all that use it (autopoll down); restore a backup, or try: sqlite3 FILE .recover",
        )

    @property
    def _errno(self) -> int:
        """The system's error behind the driver's; 0 when the file could not even be opened."""
        return self._db.system_errno if "_db" in vars(self) else 0

    def _full(self) -> BridgeFull:
        what = f"no room to write {self.path}; nothing was changed"
        return BridgeFull(what, "Make room on the disk, or raise the quota or file size limit.")


class Patience:
    """A busy handler that begins with 0.1 ms, where SQLite's own begins with 1 ms and goes to 100.

    A commit holds the lock for about 0.1 ms, so a short sleep mostly meets it free.
    """

    def __init__(self) -> None:
        self._deadline = 0.0

    def __call__(self, tries: int) -> bool:
        """Sleep and return True to try again, False to give up."""
        now = time.monotonic()
        if tries == 0:
            self._deadline = now + BUSY_S
        if now >= self._deadline:
            return False
        time.sleep(min(0.0001 * 2 ** min(tries, 8), 0.01))
        return True
