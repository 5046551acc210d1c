"""How the schema is made and migrated, the right to use it, and who may still use it.

A step runs once, in order, in one transaction that keeps every other migration out. First it is
expanded, a release later contracted: hosts of two neighbouring releases run together. One that is
too old for what is there is refused by `oldest_compatible`.
"""

from collections.abc import Callable

from psycopg import sql

from autopoll.bridge.postgres.connection import MIGRATION, PostgresDatabase
from autopoll.bridge.postgres.schema_steps import STEPS
from autopoll.bridge.postgres.statements import SCHEMA
from autopoll.bridge.sql.tables import TABLES
from autopoll.errors import BridgeError

OLDEST_SERVER = 140000  # as server_version_num has it

KNOWN = len(STEPS)
OLDEST_COMPATIBLE = 1  # of the code that still understands a schema of KNOWN
_BEGIN_SCHEMA = """CREATE SCHEMA IF NOT EXISTS autopoll;
CREATE TABLE IF NOT EXISTS autopoll.schema (
  version integer NOT NULL, oldest_compatible integer NOT NULL);
"""
_VERSION = "SELECT version, oldest_compatible FROM autopoll.schema"
_IS_THERE = "SELECT to_regclass('autopoll.schema') IS NOT NULL"


def schema_sql() -> str:
    """Return all that makes the schema, or migrates it, for who reads it before it runs.

    Run again it does nothing.
    """
    steps = "".join(
        f"  IF found < {number} THEN EXECUTE $step${step}$step$; END IF;\n"
        for number, step in enumerate(STEPS, 1)
    )
    return f"""BEGIN;
SELECT pg_advisory_xact_lock({MIGRATION});
{_BEGIN_SCHEMA}DO $migration$
DECLARE found integer := coalesce((SELECT max(version) FROM autopoll.schema), 0);
BEGIN
{steps}  IF found < {KNOWN} THEN
    DELETE FROM autopoll.schema;
    INSERT INTO autopoll.schema VALUES({KNOWN},{OLDEST_COMPATIBLE});
  END IF;
END $migration$;
COMMIT;
"""


def grants_sql(role: str) -> str:
    """Return the statements that let a role use the bridge, and migrate nothing."""
    tables = ", ".join(f"{SCHEMA}.{table}" for table in TABLES)
    name = sql.Identifier(role).as_string()
    return (
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {name};\n"
        f"GRANT SELECT ON {SCHEMA}.schema TO {name};\n"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {name};\n"
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {SCHEMA} TO {name};\n"
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {SCHEMA} TO {name};\n"
    )


def prepare(db: PostgresDatabase, *, create: bool, read_only: bool) -> None:
    """See that the server and its schema can be used; make or migrate it where that is wanted.

    Raises BridgeError before anything was changed.
    """
    _require_server(db)
    found = _version(db)
    if found is None and not create:
        raise BridgeError(
            f"there is no bridge in {db.server}",
            "Create it with: autopoll init --bridge URL, or check [bridge] url in autopoll.toml.",
        )
    if found is None or (found[0] < KNOWN and not read_only):
        _migrate(db)
        found = _version(db)
    _require_known(db, found or (0, 0))


def make(db: PostgresDatabase, run: Callable[[str], None]) -> None:
    """Make or migrate the schema within `migrating`, of which `run` is."""
    _require_server(db)
    found = _version(db)
    if found is None or found[0] < KNOWN:
        _run_steps(db, run)
    _require_known(db, _version(db) or (0, 0))


def _require_known(db: PostgresDatabase, found: tuple[int, int]) -> None:
    version, oldest = found
    if oldest > KNOWN:
        raise BridgeError(
            f"{db.server} has the newer schema version {version}, this autopoll knows {KNOWN}",
            "Upgrade autopoll on this host.",
        )
    if version < KNOWN:
        raise BridgeError(
            f"{db.server} has the older schema version {version}, this autopoll needs {KNOWN}",
            "Migrate it with: autopoll up",
        )


def _require_server(db: PostgresDatabase) -> None:
    ((number, version, encoding),) = db.rows(
        "SELECT CAST(current_setting('server_version_num') AS INTEGER),"
        " current_setting('server_version'), current_setting('server_encoding')"
    )
    if number < OLDEST_SERVER:
        raise BridgeError(
            f"{db.server} is PostgreSQL {version}, which is too old",
            f"Use version {OLDEST_SERVER // 10000} or newer.",
        )
    if encoding != "UTF8":
        raise BridgeError(
            f"the database of {db.server} has the encoding {encoding}",
            "Make one for every text: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
        )


def _version(db: PostgresDatabase) -> tuple[int, int] | None:
    """Return the version of the schema, and of the oldest code that may use it; None for none."""
    ((there,),) = db.rows(_IS_THERE)
    if not there:
        return None
    rows = db.rows(_VERSION)
    return (rows[0][0], rows[0][1]) if rows else None


def _migrate(db: PostgresDatabase) -> None:
    """Bring the schema to the known version, after whoever is doing so now."""
    with db.migrating() as run:
        _run_steps(db, run)


def _run_steps(db: PostgresDatabase, run: Callable[[str], None]) -> None:
    run(_BEGIN_SCHEMA)
    rows = db.rows(_VERSION)
    version, oldest = rows[0] if rows else (0, 0)
    if oldest > KNOWN:
        return  # another was quicker, and is newer
    for step in STEPS[version:]:
        run(step)
    if version < KNOWN:
        db.rows("DELETE FROM autopoll.schema")
        db.rows("INSERT INTO autopoll.schema VALUES(?,?)", (KNOWN, OLDEST_COMPATIBLE))
