"""The connection: how the server is reached, and how statements and transactions run."""

import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from autopoll.bridge.postgres.driver_errors import explain, is_lost, unavailable
from autopoll.bridge.postgres.reconnection import LIMITS_MS, Reconnection
from autopoll.bridge.postgres.statements import SCHEMA, translated
from autopoll.bridge.records import LONGEST_CALL_S
from autopoll.bridge.sql.database import Dialect, Row, Values
from autopoll.errors import BridgeError

MIGRATION = 0x6175746F706F6C6C  # of the advisory lock: "autopoll"
_MIGRATION_S = 600.0
_OURS = 0x6175746F  # before the names of advisory locks, which all users of a database share
_NOW = "SELECT autopoll.now_ms()"
# Each statement is to see what was committed before it, whatever the database has as its default.
_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED;"
    + "".join(f" SET LOCAL {name}={ms};" for name, ms in LIMITS_MS.items())
    + f" {{}}{_NOW}"
)
_BEGIN_DURABLE, _BEGIN_LAX = (
    _BEGIN.format(words) for words in ("", "SET LOCAL synchronous_commit=off; ")
)
_BEGIN_MIGRATION = """BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout=0;
  SET LOCAL statement_timeout=0; SELECT pg_advisory_xact_lock({}); SELECT 0"""
# Both kinds in one statement, so that all are locked in one order: no two wait for each other.
_LOCK = """SELECT id FROM conversations WHERE id IN (SELECT unnest(CAST(:names AS TEXT[])) UNION
  SELECT conversation_id FROM deliveries WHERE message_id=ANY(CAST(:numbers AS BIGINT[]))
  AND strpos(lane,'/')>0) ORDER BY id FOR NO KEY UPDATE"""

CHANNEL = "autopoll"
# Its record need not outlive a crash of the server, in which all who listen lose their connection.
NOTIFY = f"BEGIN; SET LOCAL synchronous_commit=off; NOTIFY {CHANNEL}; COMMIT"

DIALECT = Dialect(
    stored_text="{}",
    json_text="autopoll.json_text({},'{}')",
    json_integer="autopoll.json_integer({},'{}')",
    numbers="SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST({} AS JSON))",
    question="""CASE WHEN m.message IS NULL THEN '' WHEN octet_length(m.message)<=:max
      THEN m.message ELSE autopoll.head_of(m.message) END""",
    contains="strpos({},{})>0",
    created="c.number",
    ordered_join="JOIN",
    unlocked=" FOR UPDATE SKIP LOCKED",
    for_update="FOR UPDATE OF d",
    answer_mark=(",unseen", ",false"),
)

_Part = TypeVar("_Part")


class PostgresDatabase:
    """One connection to the server, made again when it is lost.

    No call takes longer than LONGEST_CALL_S: where a reply does not come in time the connection is
    closed, and BridgeUnavailable raised. `clock` is the server's.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self.dialect = DIALECT
        self.reconnection = Reconnection(url, read_only=read_only)
        self.server = self.reconnection.server
        self._now: int | None = None  # when the transaction that is under way began
        self._locked: set[str | int] = set()
        self._calls = 0  # of which each is in the one before it
        self._deadline = 0.0

    def close(self) -> None:
        """Close the connection; tolerated twice."""
        self.reconnection.close()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Give all statements of the block together the time of one call."""
        if self._calls == 0:
            self._deadline = time.monotonic() + LONGEST_CALL_S * 0.9
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    def clock(self) -> int:
        """Return the server's time in ms; in a transaction when that began."""
        if self._now is not None:
            return self._now
        ((now,),) = self.rows(_NOW)
        number: int = now
        return number

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        with self._cursor() as cursor:
            cursor.execute(translated(sql), values)
            return cursor.fetchall() if cursor.description else []

    def many(self, sql: str, rows: Sequence[Values]) -> None:
        if rows:
            with self._cursor() as cursor:
                cursor.executemany(translated(sql), rows)

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._cursor() as cursor, cursor.connection.pipeline():
            yield

    def each(self, sql: str, values: Values = ()) -> Generator[Row, None, None]:
        with self._cursor() as cursor:
            yield from cursor.stream(translated(sql), values)

    def insert(self, sql: str, rows: Sequence[Values]) -> list[int]:
        if not rows:
            return []
        with self._cursor() as cursor:
            cursor.executemany(translated(sql), rows, returning=True)
            return [number for result in cursor.results() for (number,) in result]

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[None]:
        with self.call():
            try:
                self._begin(_BEGIN_DURABLE if durable else _BEGIN_LAX)
                yield
                self._commit()
            finally:
                self._now = None
                self._locked.clear()
                self._roll_back()

    def lock_conversations(
        self, names: Collection[str] = (), deliveries: Collection[int] = ()
    ) -> None:
        wanted: set[str | int] = {*names, *deliveries}
        if wanted <= self._locked:
            return
        if self._locked:
            raise RuntimeError("a transaction locks all its conversations at once")
        self.rows(_LOCK, {"names": list(names), "numbers": list(deliveries)})
        self._locked = wanted

    def lock_key(self, name: str) -> None:
        self.rows(f"SELECT pg_advisory_xact_lock({_OURS},hashtext(?))", (name,))

    @contextmanager
    def migrating(self) -> Iterator[Callable[[str], None]]:
        """Run the block in one transaction that no other migration meets; yields what runs scripts.

        Waits for as long as another takes, and takes as long as it takes.
        """
        with self.call():
            self._deadline = time.monotonic() + _MIGRATION_S
            try:
                self._begin(_BEGIN_MIGRATION.format(MIGRATION))
                yield self._run_script
                self._commit()
            finally:
                self._now = None
                self._roll_back()

    def copy_in(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Add rows to a table as they come, within `migrating`, whatever time all take."""
        statement = f"COPY {SCHEMA}.{table} ({','.join(columns)}) FROM STDIN"
        with self._cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for row in rows:
                assert self.reconnection.connection
                self._deadline = time.monotonic() + _MIGRATION_S
                self.reconnection.connection.deadline = self._deadline
                copy.write_row(row)

    def _run_script(self, statements: str) -> None:
        with self._cursor() as cursor:
            cursor.execute(statements.encode())

    def decided(self, table: str) -> int:
        [(number,)] = self.rows("SELECT autopoll.decided(?)", (f"{table}_id",))
        return int(number)

    def notify(self) -> None:
        """Let pollers look at once, after a commit; one that is lost costs them a second."""
        with suppress(BridgeError), self._cursor() as cursor:
            cursor.execute(NOTIFY.encode())

    def try_lock(self, name: str) -> bool:
        [(locked,)] = self.rows(f"SELECT pg_try_advisory_xact_lock({_OURS},hashtext(?))", (name,))
        return bool(locked)

    def _begin(self, statements: str) -> None:
        with self._cursor() as cursor:
            cursor.execute(statements.encode())
            while cursor.nextset():
                pass
            ((self._now,),) = cursor.fetchall()

    def _commit(self) -> None:
        with self._cursor() as cursor:
            cursor.execute("COMMIT")
            if cursor.statusmessage != "COMMIT":  # a statement had failed, and nobody said so
                raise BridgeError(f"{self.server} rolled back what was to be committed")

    def _roll_back(self) -> None:
        connection = self.reconnection.connection
        if connection and connection.info.transaction_status in (
            TransactionStatus.INTRANS,
            TransactionStatus.INERROR,
        ):
            with suppress(BridgeError), self._cursor() as cursor:
                cursor.execute("ROLLBACK")

    @contextmanager
    def _cursor(self) -> Iterator[psycopg.Cursor[Row]]:
        """Yield a cursor of the connection, and translate the driver's errors."""
        with self.call():
            in_transaction = self._now is not None
            connection = self.reconnection.connection if in_transaction else None
            if connection is None:
                if in_transaction:
                    raise unavailable(self.server, "the connection was lost in a transaction")
                connection = self.reconnection.get(self._deadline)
            connection.deadline = self._deadline
            try:
                with connection.cursor() as cursor:
                    yield cursor
            except psycopg.Error as error:
                if is_lost(error) or connection.broken or connection.closed:
                    self.reconnection.drop(str(error))
                raise explain(error, self.server) from error


def bounded(part: _Part, db: PostgresDatabase) -> _Part:
    """Give each call of a part's public methods the time of one call; return the part."""
    for name in dir(part):
        method = getattr(part, name)
        if not name.startswith("_") and callable(method):
            setattr(part, name, _in_one_call(method, db))
    return part


def _in_one_call(method: Callable[..., Any], db: PostgresDatabase) -> Callable[..., Any]:
    def bounded_method(*values: Any, **named: Any) -> Any:
        with db.call():
            return method(*values, **named)

    return bounded_method
