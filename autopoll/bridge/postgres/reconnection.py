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
# What the URL, the service file and the environment do not say otherwise; libpq's words.
_DEFAULTS: dict[str, Any] = {
    "application_name": "autopoll",
    "connect_timeout": 5,  # s
    "keepalives_idle": 5,  # s
    "keepalives_interval": 2,  # s
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,  # ms
}
# libpq reads these after the environment, and so they must not stand in its way.
_ENVIRONMENT = {"application_name": "PGAPPNAME", "connect_timeout": "PGCONNECT_TIMEOUT"}

_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


class BoundedConnection(psycopg.Connection[Any]):
    """A connection whose every wait ends at `deadline`, a moment of CLOCK_MONOTONIC in seconds."""

    deadline = 0.0

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
            self._attempt, self._begun = Future(), now
            threading.Thread(
                target=_connect, args=(self._parameters, self._attempt), daemon=True
            ).start()
            patience = deadline - now if self.made == 0 else min(deadline - now, LONGEST_CALL_S / 2)
        else:
            patience = min(deadline - now, max(self._begun + _PATIENCE_S - now, 0.0))
        try:
            connection = self._attempt.result(patience)
        except NotYet:
            waited = time.monotonic() - self._begun
            raise unavailable(self.server, f"no reply in {waited:.1f} s") from None
        except psycopg.Error as error:
            self._attempt, self._begun = None, time.monotonic()
            self._failed = explain(error, self.server)
            raise self._failed from error
        self._attempt = self._failed = None
        self.connection, self.made = connection, self.made + 1
        self.pooled = connection.prepare_threshold is None
        return connection

    def drop(self, why: str) -> None:
        """Close the connection, so that the next call makes another."""
        if self.connection:
            log.info("the connection to %s was closed: %s", self.server, " ".join(why.split()))
            self.connection.close()
            self.connection = None

    def close(self) -> None:
        """Close the connection for good; tolerated twice."""
        self._closed = True
        if self.connection:
            self.connection.close()
            self.connection = None
        if self._attempt:
            self._attempt.add_done_callback(_close_late)


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
        connection = BoundedConnection.connect(autocommit=True, **parameters)
        connection.deadline = time.monotonic() + LONGEST_CALL_S
        # A pooler shows a process of its own; where sessions change, nothing is prepared or set.
        ((pid,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
        if pid != connection.info.backend_pid:
            connection.prepare_threshold = None
        else:
            connection.execute(_SET_LIMITS.encode())
        attempt.set_result(connection)
    except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
        attempt.set_exception(error)


def _close_late(attempt: "Future[BoundedConnection]") -> None:
    with contextlib.suppress(Exception):
        attempt.result().close()
