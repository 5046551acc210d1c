"""Whether the schema is whole, as far as a client can see."""

from autopoll.bridge.postgres.connection import PostgresDatabase
from autopoll.bridge.postgres.statements import SCHEMA
from autopoll.bridge.sql.tables import TABLES
from autopoll.errors import BridgeError


class PostgresCheckup:
    """Looks at each table, changing nothing; damage within is the server's to find."""

    def __init__(self, db: PostgresDatabase) -> None:
        self._db = db

    def examine(self, seconds: float) -> bool:
        del seconds  # of which it needs next to nothing
        rows = self._db.rows(
            "SELECT relname FROM pg_class WHERE relnamespace=to_regnamespace(?)"
            " AND relkind IN ('r','p')",
            (SCHEMA,),
        )
        if missing := {*TABLES} - {name for (name,) in rows}:
            raise BridgeError(
                f"{self._db.server} lacks {', '.join(sorted(missing))} of the schema {SCHEMA}",
                "Restore a backup of the schema.",
            )
        for name in TABLES:
            self._db.rows(f"SELECT 1 FROM {name} LIMIT 1")
        return True
