"""Reaching the server, and reaching it again, in a thread: looking up a name, or a server that says
nothing, may take longer than a call.
"""

import contextlib
import logging
import os
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from autopoll.bridge.postgres.driver_errors import explain, unavailable
from autopoll.bridge.records import LONGEST_CALL_S
from autopoll.errors import BridgeError, ConfigError

_PATIENCE_S = 0.3  # for which a call waits for an attempt that another one has begun
_PAUSE_S = 0.2  # after an attempt that failed
# What the server itself gives a lock, a statement, and a client that stops in the middle of a
# transaction, to which it keeps its locks.
LIMITS_MS = {
    "lock_timeout": 1500,
    "statement_timeout": 2500,
    "idle_in_transaction_session_timeout": 5000,
}
_SET_LIMITS = "; ".join(f"SET {name}={ms}" for name, ms in LIMITS_MS.items())
# What the URL and the environment do not say otherwise, to which libpq has the service file yield.
_DEFAULTS: dict[str, Any] = {
    "fallback_application_name": "autopoll",
    "connect_timeout": 5,  # s
    "keepalives_idle": 5,  # s
    "keepalives_interval": 2,  # s
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,  # ms
}
# It is read after what is given, and so that must not stand in its way.
_ENVIRONMENT = {"connect_timeout": "PGCONNECT_TIMEOUT"}

# The database cluster, and the history that it writes on; nothing where it takes no writes.
_IDENTITY = """SELECT concat(system_identifier, ' ', left(pg_walfile_name(pg_current_wal_lsn()), 8))
  FROM pg_control_system() WHERE NOT pg_is_in_recovery()"""

_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


class BoundedConnection(psycopg.Connection[Any]):
    """A connection whose every wait ends at `deadline`, a moment of CLOCK_MONOTONIC in seconds."""

    deadline = 0.0
    identity: str | None = None  # of the server that takes the writes, where it is known

    def wait(
        self, gen: PQGen[_Result], interval: float = 0.1, timeout: float | None = None
    ) -> _Result:
        left = max(self.deadline - time.monotonic(), 0.001)
        try:
            return super().wait(gen, interval, left if timeout is None else min(timeout, left))
        except psycopg.OperationalError:
            if time.monotonic() >= self.deadline:
                self.close()  # whatever it still says belongs to no call
            raise


class Reconnection:
    """The one connection of a bridge, and the attempt to make the next.

    `pooled` tells whether a pooler stands before the server that gives each transaction another
    session. `server` names the server without a password.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self._parameters = parameters_of(url, read_only=read_only)
        self.server = name_of(self._parameters)
        self.connection: BoundedConnection | None = None
        self.pooled = False
        self.made = 0  # how many connections there have been
        self._attempt: Future[BoundedConnection] | None = None
        self._begun = 0.0
        self._failed: BridgeError | None = None
        self._identity: str | None = None
        self._closed = False

    def get(self, deadline: float) -> BoundedConnection:
        """Return the connection, made if there is none; raise BridgeUnavailable, or BridgeError.

        The first call of an attempt waits for it; others raise while it goes on.
        """
        if self.connection:
            return self.connection
        if self._closed:
            raise BridgeError(f"{self.server} was closed")
        now = time.monotonic()
        if self._failed and now < self._begun + _PAUSE_S:
            raise type(self._failed)(self._failed.what, self._failed.mend)
        if self._attempt is None:
            self._attempt, self._begun = self._start_attempt(), now
            patience = deadline - now if self.made == 0 else min(deadline - now, LONGEST_CALL_S / 2)
        else:
            patience = min(deadline - now, max(self._begun + _PATIENCE_S - now, 0.0))
        try:
            error = self._attempt.exception(patience)
        except NotYet:
            waited = time.monotonic() - self._begun
            raise unavailable(self.server, f"no reply in {waited:.1f} s") from None
        attempt, self._attempt = self._attempt, None
        if error:
            self._begun = time.monotonic()
            self._failed = self._explain(error)
            raise self._failed from error
        self._failed = None
        self.connection, self.made = attempt.result(), self.made + 1
        self.pooled = self.connection.prepare_threshold is None
        self._compare(self.connection.identity)
        return self.connection

    def drop(self, why: str = "") -> None:
        """Close the connection, so that the next call makes another; log why, if that is said."""
        if self.connection and why:
            log.info("the connection to %s was closed: %s", self.server, " ".join(why.split()))
        self._close_connection()

    def close(self) -> None:
        """Close the connection for good; tolerated twice."""
        self._closed = True
        self._close_connection()
        if self._attempt:
            self._attempt.add_done_callback(_close_late)

    def _close_connection(self) -> None:
        if self.connection:
            self.connection.close()
            self.connection = None

    def _start_attempt(self) -> "Future[BoundedConnection]":
        attempt: Future[BoundedConnection] = Future()
        thread = threading.Thread(target=_connect, args=(self._parameters, attempt), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no room for one more
            raise self._explain(error) from error
        return attempt

    def _explain(self, error: BaseException) -> BridgeError:
        if isinstance(error, psycopg.Error):
            return explain(error, self.server)
        return unavailable(self.server, f"{type(error).__name__}: {error}")

    def _compare(self, identity: str | None) -> None:
        """Log where another server has taken the place of the last one."""
        if self._identity and identity and identity != self._identity:
            log.warning(
                "%s is another server now, or a standby that was promoted: what it had not received"
                " yet is lost",
                self.server,
            )
        self._identity = identity or self._identity


def parameters_of(url: str, *, read_only: bool = False) -> dict[str, Any]:
    """Return libpq's parameters for a URL; raise ConfigError for one that it cannot read."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:  # it names a parameter, and shows no value
        raise ConfigError(
            f"the bridge url cannot be read: {' '.join(str(error).split())}",
            "Its parameters: https://www.postgresql.org/docs/current/libpq-connect.html",
        ) from error
    for name, value in _DEFAULTS.items():
        if not os.environ.get(_ENVIRONMENT.get(name, "")):
            given.setdefault(name, value)
    given["client_encoding"] = "UTF8"  # whatever the database or the environment has
    given.setdefault("target_session_attrs", "any" if read_only else "read-write")
    return given


def name_of(parameters: dict[str, Any]) -> str:
    """Return a name of the server for people, without a password."""
    names = ("service", "host", "port", "dbname")
    shown = {name: parameters[name] for name in names if parameters.get(name)}
    return f"PostgreSQL ({make_conninfo('', **shown) or 'by the environment'})"


def _connect(parameters: dict[str, Any], attempt: "Future[BoundedConnection]") -> None:
    try:
        with contextlib.ExitStack() as opened:
            connection = BoundedConnection.connect(autocommit=True, **parameters)
            opened.callback(connection.close)
            _prepare(connection)
            opened.pop_all()
        attempt.set_result(connection)
    except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
        attempt.set_exception(error)


def _prepare(connection: BoundedConnection) -> None:
    connection.deadline = time.monotonic() + LONGEST_CALL_S
    # A pooler shows a process of its own; where sessions change, nothing is prepared or set.
    ((pid,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
    if pid != connection.info.backend_pid:
        connection.prepare_threshold = None
    else:
        connection.execute(_SET_LIMITS.encode())
    # A role may be kept from reading it, and a server that only speaks as PostgreSQL has none.
    with contextlib.suppress(errors.InsufficientPrivilege, errors.UndefinedFunction):
        for (identity,) in connection.execute(_IDENTITY.encode()).fetchall():
            connection.identity = identity


def _close_late(attempt: "Future[BoundedConnection]") -> None:
    if attempt.exception() is None:
        attempt.result().close()
