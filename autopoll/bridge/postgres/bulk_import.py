"""The rows of another engine, added to an empty schema by one commit."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from autopoll.bridge.postgres import schema
from autopoll.bridge.postgres.connection import PostgresDatabase
from autopoll.bridge.postgres.statements import SCHEMA
from autopoll.bridge.sql.database import Row
from autopoll.bridge.sql.tables import TABLES
from autopoll.errors import AlreadyRunning, BridgeError, BridgeFull, BridgeUnavailable

# What the server may have been told for all sessions is no limit for this transaction.
_LIMITS = (
    "SET LOCAL statement_timeout=0",
    "SET LOCAL idle_in_transaction_session_timeout=0",
    "SET LOCAL lock_timeout=5000",
)
_ALL = ", ".join(f"{SCHEMA}.{table}" for table in TABLES)
_NUMBERED = {
    "audit_log": "id", "conversations": "number", "keys": "id", "messages": "id", "routes": "id",
}  # fmt: skip
_SEQUENCE = f"CAST(pg_get_serial_sequence('{SCHEMA}.'||?, ?) AS regclass)"
_MADE_HERE = ("unseen",)  # columns of this engine alone, which have defaults


@contextmanager
def importing(url: str) -> Iterator["PostgresImport"]:
    """Yield what adds rows, which are committed at the end of the block, with the schema.

    Others wait meanwhile. Raises AlreadyRunning while a poller answers for the schema, BridgeError
    where it holds anything, or for a server that cannot be used.
    """
    db = PostgresDatabase(url)
    try:
        with db.migrating() as run:
            for statement in _LIMITS:
                run(statement)
            schema.make(db, run)
            yield PostgresImport(db)
    finally:
        db.close()


class PostgresImport:
    """An empty schema, locked."""

    tables = TABLES

    def __init__(self, db: PostgresDatabase) -> None:
        self._db = db
        self._require_right()
        self._db.rows(f"LOCK TABLE {_ALL} IN SHARE ROW EXCLUSIVE MODE")
        self._require_empty()

    def columns(self, table: str) -> dict[str, bool]:
        """Return the columns of a table to be given, and for each whether it is text."""
        rows = self._db.rows(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_schema=? AND table_name=? ORDER BY ordinal_position",
            (SCHEMA, table),
        )
        return {name: kind == "text" for name, kind in rows if name not in _MADE_HERE}

    def add(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Add rows to a table as they come."""
        try:
            self._db.copy_in(table, columns, rows)
        except (BridgeUnavailable, BridgeFull):
            raise
        except BridgeError as error:
            raise BridgeError(
                f"a row of {table} cannot be copied: {error.what}",
                "Nothing was copied. Mend that row in the source, and begin again.",
            ) from error

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        [(number,)] = self._db.rows(f"SELECT count(*) FROM {table}")
        return int(number)

    def go_on_after(self, table: str, last: int) -> None:
        """Have the numbers of a table go on after `last`, and after those it holds."""
        column = _NUMBERED[table]
        self._db.rows(
            f"SELECT setval({_SEQUENCE}, greatest(last,1), last>=1) FROM"
            f" (SELECT greatest(CAST(? AS BIGINT), max({column})) AS last FROM {table}) l",
            (table, column, last),
        )

    @property
    def numbered(self) -> Iterable[str]:
        """The tables whose rows are numbered by a sequence."""
        return _NUMBERED

    def analyze(self) -> None:
        """Let the planner know what is there, before the server looks by itself."""
        self._db.rows(f"ANALYZE {_ALL}")

    def _require_right(self) -> None:
        """Raise BridgeError unless the role may set the numbers: it is the owner's task."""
        for table, column in _NUMBERED.items():
            [(right, role)] = self._db.rows(
                f"SELECT has_sequence_privilege({_SEQUENCE}, 'UPDATE'), current_user",
                (table, column),
            )
            if not right:
                raise BridgeError(
                    f"{self._db.server}: the role {role} may not set the sequences of {SCHEMA}",
                    f"Copy as the owner of the schema {SCHEMA}.",
                )

    def _require_empty(self) -> None:
        alive = self._db.rows("SELECT host, folder FROM pollers WHERE beat_until>autopoll.now_ms()")
        if alive:
            host, folder = alive[0]
            raise AlreadyRunning(
                f"a poller on {host} answers for the bridge in {self._db.server} (home {folder})",
                "A bridge is copied into a new place; name another database.",
            )
        for table in TABLES:
            if self._db.rows(f"SELECT 1 FROM {table} LIMIT 1"):
                raise BridgeError(
                    f"there is a bridge in {self._db.server} already: {SCHEMA}.{table} holds rows",
                    f"Name another database; or, to lose what is there: DROP SCHEMA {SCHEMA}"
                    " CASCADE.",
                )
