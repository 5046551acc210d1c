"""What about the server may harm a bridge later; read from its views, changing nothing.

Views: https://www.postgresql.org/docs/current/monitoring-stats.html
"""

from collections.abc import Iterator

from autopoll.bridge.postgres.connection import PostgresDatabase
from autopoll.bridge.postgres.statements import SCHEMA
from autopoll.bridge.records import StoreWarning
from autopoll.bridge.sql.tables import TABLES

_OLD_S = 600  # of a transaction that keeps dead rows from being swept up
_NEARLY = 0.9  # share of the connections
_SLOT_BYTES = 1 << 30  # of the log that an unused slot keeps

_OLDEST = """SELECT pid, CAST(extract(epoch FROM now()-xact_start) AS bigint), state,
    coalesce(usename,''), coalesce(application_name,'')
  FROM pg_stat_activity WHERE backend_type='client backend' AND xact_start IS NOT NULL
    AND now()-xact_start > make_interval(secs => ?) ORDER BY xact_start LIMIT 1"""
_CONNECTIONS = """SELECT count(*), CAST(current_setting('max_connections') AS integer)
    - CAST(current_setting('superuser_reserved_connections') AS integer)
  FROM pg_stat_activity WHERE backend_type='client backend'"""
_SLOTS = """SELECT slot_name, CAST(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) AS bigint)
  FROM pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL"""
_STANDBYS = """SELECT application_name FROM pg_stat_replication WHERE sync_state='async'"""
_UNSWEPT = """SELECT relname FROM pg_class WHERE relnamespace=to_regnamespace(?) AND relkind='r'
    AND 'autovacuum_enabled=false'=ANY(reloptions)"""
_DENIED = """SELECT name, privilege FROM unnest(CAST(? AS text[])) AS name,
    unnest(ARRAY['SELECT','INSERT','UPDATE','DELETE']) AS privilege
  WHERE NOT has_table_privilege(? || '.' || name, privilege)"""


class ServerCheck:
    """Looks at a server through the bridge's own connection."""

    def __init__(self, db: PostgresDatabase) -> None:
        self._db = db

    def warnings(self) -> list[StoreWarning]:
        ((is_standby,),) = self._db.rows("SELECT pg_is_in_recovery()")
        found = [*self._privileges(), *self._transactions(), *self._connections(), *self._sweep()]
        if is_standby:
            what = "the server is a standby, which takes no writes"
            return [StoreWarning("standby", what, "Name the primary in [bridge] url."), *found]
        return [*self._pooler(), *found, *self._replication()]

    def _pooler(self) -> Iterator[StoreWarning]:
        if self._db.reconnection.pooled:
            what = "a pooler gives each transaction another session: questions are only polled for"
            mend = "Set [bridge] listen_url to a line past the pooler."
            yield StoreWarning("pooler", what, mend)

    def _privileges(self) -> Iterator[StoreWarning]:
        denied = self._db.rows(_DENIED, ([*TABLES], SCHEMA))
        if denied:
            some = ", ".join(f"{privilege} on {name}" for name, privilege in denied[:4])
            what = f"this role lacks {some}{' and more' if len(denied) > 4 else ''}"
            mend = "As the owner of the schema run what `autopoll bridge sql` prints as GRANT."
            yield StoreWarning("privileges", what, mend)

    def _transactions(self) -> Iterator[StoreWarning]:
        for pid, seconds, state, user, program in self._db.rows(_OLDEST, (_OLD_S,)):
            who = " ".join(filter(None, (user, program)))
            what = f"backend {pid} ({who}) has had a transaction open for {seconds} s ({state})"
            mend = f"End it: SELECT pg_terminate_backend({pid}); until then dead rows stay."
            yield StoreWarning("old transaction", what, mend)

    def _connections(self) -> Iterator[StoreWarning]:
        [(used, allowed)] = self._db.rows(_CONNECTIONS)
        if used >= _NEARLY * allowed:
            what = f"{used} of {allowed} connections are used"
            yield StoreWarning("connections", what, "Raise max_connections, or end some.")

    def _sweep(self) -> Iterator[StoreWarning]:
        [(enabled,)] = self._db.rows("SELECT current_setting('autovacuum')")
        unswept = [name for (name,) in self._db.rows(_UNSWEPT, (SCHEMA,))]
        if enabled != "on":
            mend = "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf();"
            yield StoreWarning("autovacuum", "autovacuum is off: tables only grow", mend)
        for name in unswept:
            what = f"autovacuum is off for {SCHEMA}.{name}, which only grows"
            mend = f"ALTER TABLE {SCHEMA}.{name} RESET (autovacuum_enabled);"
            yield StoreWarning("autovacuum", what, mend)

    def _replication(self) -> Iterator[StoreWarning]:
        for name, kept in self._db.rows(_SLOTS):
            if kept >= _SLOT_BYTES:
                what = f"nobody reads the replication slot {name}, which keeps {kept >> 20} MiB"
                mend = f"SELECT pg_drop_replication_slot('{name}'); unless its reader comes back."
                yield StoreWarning("replication slot", what, mend)
        names = [name for (name,) in self._db.rows(_STANDBYS)]
        if names:
            what = (
                f"asynchronous standbys ({', '.join(names)}): a failover may lose the last answers"
            )
            mend = "Set synchronous_standby_names, or accept it: docs/postgres.md, failover."
            yield StoreWarning("replication", what, mend)
