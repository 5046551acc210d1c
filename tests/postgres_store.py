"""The store of PostgreSQL under the contract: databases that are emptied and used again.

To make one takes 100 to 300 ms, to empty one 2 ms; TRUNCATE would take 70 ms.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from bridge_stores import Clock, Store
from place import until
from postgres_server import DatabaseServer

from autopoll.bridge.postgres import PostgresBridge
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import BridgeLimits

LARGE = 1 << 20  # bytes of a table that are given back

_RELATIONS = """SELECT relname FROM pg_class
  WHERE relnamespace='autopoll'::regnamespace AND relkind=%s ORDER BY 1"""
# What a test may have changed beside rows.
_SHAPE = """SELECT md5(string_agg(part, ' ' ORDER BY part)) FROM (
  SELECT concat(attrelid, attname, atttypid, attnotnull) AS part FROM pg_attribute
    WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace='autopoll'::regnamespace)
  UNION ALL SELECT concat(oid, prosrc) FROM pg_proc WHERE pronamespace='autopoll'::regnamespace
  UNION ALL SELECT concat(tgrelid, tgname, tgenabled) FROM pg_trigger
  UNION ALL SELECT concat(oid, pg_get_constraintdef(oid)) FROM pg_constraint
    WHERE connamespace='autopoll'::regnamespace
  UNION ALL SELECT version::text FROM autopoll.schema) AS shape"""
_TEST_CLOCK = """CREATE TABLE public.test_clock(now bigint);
  INSERT INTO public.test_clock VALUES(0);
  CREATE OR REPLACE FUNCTION autopoll.now_ms() RETURNS bigint LANGUAGE sql VOLATILE
    AS 'SELECT now FROM public.test_clock'"""
# The first to commit waits, but for no lock, as a bridge gives those up; others are let pass.
_HOLD = """CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF pg_try_advisory_xact_lock(1) THEN
    WHILE NOT pg_try_advisory_xact_lock(2) LOOP PERFORM pg_sleep(0.002); END LOOP;
  END IF;
  RETURN NULL;
END $$"""
_HELD = "SELECT 1 FROM pg_locks WHERE locktype='advisory' AND objid=1 AND database=%s::oid"


class PostgresStores:
    """Makes stores on one server, each in a database of its own while it is open."""

    def __init__(self, server: DatabaseServer) -> None:
        self._server = server
        self._idle: list[_Database] = []

    def new(self) -> "PostgresStore":
        database = self._idle.pop() if self._idle else _Database(self._server)
        return PostgresStore(database, self._take_back)

    def close(self) -> None:
        for database in self._idle:
            database.drop()

    def _take_back(self, database: "_Database") -> None:
        if database.empty():
            self._idle.append(database)
        else:
            database.drop()


class PostgresStore(Store):
    """A database of PostgreSQL, in which a text is a text."""

    odd_values = (
        "NULL", "''", "'{'", "'{}'", "'12345'", "chr(1)||'a'", "U&'\\FEFF{}'", "U&'\\+01F600'",
        "'{\"question\":\"\\u0000\\ud800\"}'",
        "'{\"question\":\"q\",\"query_id\":'||repeat('9',5000)||'}'",
        "'{\"question\":\"q\",\"query_id\":1e400}'", "repeat('[',60000)",
    )  # fmt: skip
    odd_texts = (
        ("NULL", ""),
        ("''", ""),
        ("U&'\\+01F600'", "\U0001f600"),
        ("'control'||chr(1)||'inside'", "control\x01inside"),
        ("U&'\\FEFF\\FFFD'", "\ufeff\ufffd"),
    )
    unreadable = "\x01\x7f"

    def __init__(self, database: "_Database", give_back: "Callable[[_Database], None]") -> None:
        super().__init__()
        self.url = database.url
        self._database = database
        self._give_back = give_back
        self.clock = _ServerClock(database)

    def _open(self, limits: BridgeLimits) -> PostgresBridge:
        return PostgresBridge(self.url, limits, create=True)

    def close(self) -> None:
        super().close()
        self._give_back(self._database)

    def foreign(self, sql: str, *values: Any) -> list[Any]:
        return self._database.run(_translated(sql) if values else sql, *values)

    @contextmanager
    def refusing(self, table: str, condition: str = "TRUE") -> Iterator[None]:
        self._database.run(
            """CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'not in here'; END $$"""
        )
        self._database.run(
            f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW WHEN ({condition})"
            " EXECUTE FUNCTION public.refuse()"
        )
        yield
        self._database.run("DROP FUNCTION public.refuse CASCADE")

    def keep_rows(self, table: str, condition: str) -> None:
        self._database.run(
            """CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RETURN NULL; END $$"""
        )
        self._database.run(
            f"CREATE TRIGGER keep BEFORE DELETE ON {table} FOR EACH ROW WHEN ({condition})"
            " EXECUTE FUNCTION public.keep()"
        )

    @contextmanager
    def blocked(self) -> Iterator[None]:
        tables = ", ".join(f"autopoll.{table}" for table in self._database.tables)
        with closing(psycopg.connect(self.url)) as connection:
            connection.execute(f"LOCK TABLE {tables} IN EXCLUSIVE MODE")
            yield

    @contextmanager
    def uncommitted(self, bridge: Bridge, write: Callable[[], object]) -> Iterator[None]:
        run = self._database.run
        run(_HOLD)
        for table in ("messages", "deliveries"):
            run(
                f"CREATE CONSTRAINT TRIGGER hold AFTER INSERT OR UPDATE ON {table} DEFERRABLE"
                " INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.hold()"
            )
        run("SELECT pg_advisory_lock(2)")
        writer = threading.Thread(target=write)
        writer.start()
        try:
            [(number,)] = run("SELECT oid FROM pg_database WHERE datname=current_database()")
            until(lambda: run(_HELD, number), 30)
            yield
        finally:
            run("SELECT pg_advisory_unlock(2)")
            writer.join()
            run("DROP FUNCTION public.hold CASCADE")


class _Database:
    """A database with the schema of the bridge, and a clock that stands."""

    def __init__(self, server: DatabaseServer) -> None:
        self._server = server
        self._name = server.create_database()
        self.url = server.url(self._name)
        PostgresBridge(self.url, BridgeLimits(), create=True).close()
        self._connection = psycopg.connect(self.url, autocommit=True)
        self.run("SET search_path=autopoll")
        self.run("SET lock_timeout='5s'")  # a bridge that was closed holds nothing
        self.run(_TEST_CLOCK)
        found = [name for (name,) in self.run(_RELATIONS, "r")]
        self.tables = [name for name in found if not self.run(f"SELECT 1 FROM {name} LIMIT 1")]
        self._sequences = [name for (name,) in self.run(_RELATIONS, "S")]
        self._shape = self.run(_SHAPE)

    def run(self, sql: str, *values: Any) -> list[Any]:
        cursor = self._connection.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []

    def empty(self) -> bool:
        """Make it as it was, and tell whether it is."""
        sizes = ",".join(f"pg_total_relation_size('{table}')" for table in self.tables)
        [found] = self.run(f"SELECT {sizes}")
        self.run(
            ";".join(
                f"TRUNCATE {table}" if size > LARGE else f"DELETE FROM {table}"
                for table, size in zip(self.tables, found, strict=True)
            )
        )
        self.run(";".join(f"SELECT setval('{name}', 1, false)" for name in self._sequences))
        return self.run(_SHAPE) == self._shape

    def drop(self) -> None:
        self._connection.close()
        self._server.drop_database(self._name)


class _ServerClock(Clock):
    """The server's clock, as the function that the engine reads it by."""

    def __init__(self, database: _Database) -> None:
        self._database = database
        super().__init__()

    @property
    def now(self) -> int:
        return self._now

    @now.setter
    def now(self, now: int) -> None:
        self._now = now
        self._database.run("UPDATE public.test_clock SET now=%s", now)


def _translated(sql: str) -> str:
    """Return a statement with %s for each ? that stands in no text, as psycopg takes it."""
    parts = re.split(r"('[^']*')", sql.replace("%", "%%"))
    return "".join(part if part.startswith("'") else part.replace("?", "%s") for part in parts)
