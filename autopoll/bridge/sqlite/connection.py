"""The connection: how the file is opened, and how statements and transactions run."""

import os
import sys
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from pathlib import Path

import apsw

from autopoll.bridge.sql.database import Dialect, Row, Values
from autopoll.bridge.sqlite import schema
from autopoll.bridge.sqlite.busy_handler import BusyHandler
from autopoll.bridge.sqlite.driver_errors import damaged, explain
from autopoll.bridge.sqlite.filesystem import refuse_network
from autopoll.clock import wall_ms
from autopoll.errors import BridgeError, BridgeFull

WAL_LIMIT = 16 << 20  # bytes; beyond it the log is cut back as soon as no reader needs it
# Pages (4 KiB and a head) after which a commit also copies the log into the database: some two
# waits for the disk. With SQLite's own 1000 that was one question in sixty, and the p99 of all.
_LOG_PAGES = 3500

_PARSED_LIMIT = 64 << 20  # bytes of a message over the limit of which type and query_id are read
# What a message m that is JSON is called by. A mark or space before it, which JSON may not begin
# with, is cut off once: each copy of a large text takes its memory.
_NAMES = """WITH b(body) AS MATERIALIZED (
    SELECT ltrim(CAST(m.message AS TEXT),char(65279,160,32,9,13,10)))
  SELECT CAST(json_object('type',body->>'$.type','query_id',body->'$.query_id') AS BLOB)
  FROM b WHERE json_valid(body) AND json_type(body)='object'"""
DIALECT = Dialect(
    # As bytes, because foreign text need not be UTF-8, which SQLite does not check and the driver
    # refuses.
    stored_text="CAST({} AS BLOB)",
    json_text="CASE WHEN json_valid(CAST({0} AS TEXT)) THEN CAST({0} AS TEXT)->>'$.{1}' END",
    json_integer="CASE WHEN json_valid(CAST({0} AS TEXT)) THEN CAST({0} AS TEXT)->>'$.{1}' END",
    numbers="SELECT value FROM json_each({})",
    question=f"""CASE WHEN m.message IS NULL THEN x'' WHEN octet_length(m.message)<=:max
        THEN CAST(m.message AS BLOB)
      ELSE coalesce(CASE WHEN octet_length(m.message)<={_PARSED_LIMIT} THEN ({_NAMES}) END,
        substr(CAST(m.message AS BLOB),1,64)) END""",
    contains="instr({},{})>0",
    created="c.rowid",
    ordered_join="CROSS JOIN",  # the planner moves no table before one on its left
    answer_mark=("", ""),
    unlocked="",
    for_update="",
)


class SqliteDatabase:
    """One connection to the database file at `path`; `driver` is that of apsw.

    `clock` returns wall-clock milliseconds. Before a migration a copy is kept in the folder
    `backups`, where one is given. Raises BridgeError when the file is missing (unless
    `create`), unreadable, corrupt, on a network file system, or of another schema version.
    """

    def __init__(
        self,
        path: Path,
        *,
        create: bool = False,
        read_only: bool = False,
        clock: Callable[[], int] = wall_ms,
        backups: Path | None = None,
    ) -> None:
        # The true path, because the log lies beside the file and not beside a link to it.
        self.path = path.resolve()
        self.clock = clock
        self.dialect = DIALECT
        self._durable: bool | None = None
        self._prepare_file(create)
        with ExitStack() as opened:
            with self._explained():
                self.driver = self._connect(read_only)
            opened.callback(self.driver.close)
            with self._explained():
                version = schema.version(self.driver, self.path)
            if read_only:
                schema.require_current(version, self.path)
            elif version != schema.KNOWN:
                with self._explained():
                    schema.migrate(self.driver, self.path, self._keeper(backups))
            self._seen = self._data_version()
            self._opened = self._files()
            opened.pop_all()

    def _keeper(self, backups: Path | None) -> Callable[[int], None] | None:
        """Return what keeps a copy of the file of a schema version; None where none is kept."""
        if backups is None:
            return None
        from autopoll.bridge.sqlite.migration_backup import keep_copy  # which few ever need

        return lambda version: keep_copy(self.path, version, backups)

    def close(self) -> None:
        """Close the file; tolerated twice."""
        self.driver.close()

    def changed(self) -> bool:
        """Return whether another connection committed since the last call.

        Own commits do not count. Takes no lock; measured at 15 us.
        """
        seen, self._seen = self._seen, self._data_version()
        return seen != self._seen

    def require_in_place(self) -> None:
        """Raise BridgeError when the database, or what belongs to it, was replaced or removed.

        What opens it from then on sees another store than we do, and neither knows.
        """
        found = self._files()
        # The database may have gone between its opening and the first look at its files.
        for name, inode in {str(self.path): 0, **self._opened}.items():
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
                "Stop all that use it (autopoll down), and restore a backup (autopoll restore"
                " FILE); without one, make it anew: autopoll up",
            )

    def _connect(self, read_only: bool) -> apsw.Connection:
        mode = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
        db = apsw.Connection(str(self.path), flags=mode)
        # First of all, because turning the log on may already meet another program's lock.
        db.set_busy_handler(BusyHandler())
        # Else SQLite plans a join again at each run, to use the values bound to it: 70 us, not 4.
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

    def cut_log(self, *, always: bool = False) -> None:
        """Have the next commit cut a log longer than WAL_LIMIT; or `always` empty it, at once.

        Only where no reader needs it.
        """
        log = Path(f"{self.path}-wal")
        if not log.exists() or log.stat().st_size <= (0 if always else WAL_LIMIT):
            return
        self.driver.set_busy_handler(None)  # a reader may go on for long
        try:
            self.rows(f"PRAGMA wal_checkpoint({'TRUNCATE' if always else 'RESTART'})")
        finally:
            self.driver.set_busy_handler(BusyHandler())

    def drop_cache(self) -> None:
        """Read the file again: a lone writer, who has it all in memory, never notices damage."""
        self.rows("PRAGMA shrink_memory")

    def _data_version(self) -> int:
        with self._explained():
            version: int = self.driver.pragma("data_version")
        return version

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        """Return all rows, so that no cursor is open when its transaction commits."""
        try:  # and no context manager, which costs as much as the statement of a short one
            return self.driver.execute(sql, values).fetchall()
        except apsw.Error as error:
            raise self._explain(error) from error

    def many(self, sql: str, rows: Sequence[Values]) -> None:
        """Run a statement once for each row of values."""
        if rows:
            try:
                self.driver.executemany(sql, rows)
            except apsw.Error as error:
                raise self._explain(error) from error

    def together(self) -> AbstractContextManager[None]:
        """Do nothing: nothing is sent anywhere."""
        return nullcontext()

    def each(self, sql: str, values: Values = ()) -> Generator[Row, None, None]:
        """Yield rows one by one, because all at once need not fit into memory."""
        with self._explained(), closing(self.driver.execute(sql, values)) as cursor:
            yield from cursor

    def insert(self, sql: str, rows: Sequence[Values]) -> list[int]:
        """Run an INSERT … RETURNING id for each row of values; return the numbers in their order.

        They are fewer where another program's trigger leaves a row out.
        """
        if not rows:
            return []
        try:
            return [number for (number,) in self.driver.executemany(sql, rows)]
        except apsw.Error as error:
            raise self._explain(error) from error

    def decided(self, table: str) -> int:
        """Return the last: with one writer, what is numbered first is committed first."""
        return sys.maxsize

    def lock_conversations(
        self, names: Collection[str] = (), deliveries: Collection[int] = ()
    ) -> None:
        """Do nothing: there is one writer at a time."""

    def lock_key(self, name: str) -> None:
        """Do nothing, as above."""

    def try_lock(self, name: str) -> bool:
        """Return True, as above."""
        return True

    def damaged(self, how: str) -> BridgeError:
        """Return the error for damage that was found."""
        return damaged(self.path, how)

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[None]:
        """Run the block in one transaction that is committed at its end or leaves no trace.

        IMMEDIATE always: a reader that turns writer after someone else's commit is refused at once.
        A commit that is not `durable` survives kill -9 but not a power cut; it spares an fsync.
        """
        try:
            if self._durable != durable:
                self.rows(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self.rows("BEGIN IMMEDIATE")
            yield
            self.rows("COMMIT")
        except BridgeFull:
            self._roll_back()
            # The log is the one thing that can be given back; the next try may find room then.
            with suppress(BridgeError):
                self.cut_log(always=True)
            raise
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        if self.driver.in_transaction:  # a full disk has rolled back already
            with suppress(apsw.Error):
                self.driver.execute("ROLLBACK")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Translate the driver's errors."""
        try:
            yield
        except apsw.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: apsw.Error) -> BridgeError:
        # There is no driver when the file could not even be opened; a closed one tells no number.
        asked = "driver" in vars(self) and not isinstance(error, apsw.ConnectionClosedError)
        return explain(error, self.path, self.driver.system_errno if asked else 0)
