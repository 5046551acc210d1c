"""News from other hosts: a notification without content, after their commits.

Looking once a second is what nothing is missed by; this is quicker.
"""

import time

import psycopg

from autopoll.bridge.postgres.connection import CHANNEL, NOTIFY
from autopoll.bridge.postgres.driver_errors import explain, unavailable
from autopoll.bridge.postgres.reconnection import Reconnection
from autopoll.errors import BridgeError

PROBE_S = 10.0  # between two looks at whether the server still sends here
_REPLY_S = 1.0
_CONNECT_S = 0.3  # for which the loop waits; the attempt goes on without it


class NotificationWatch:
    """Readable when another session has notified; on a connection of its own, one at a time.

    Raises BridgeUnavailable while there is no connection yet, which is made meanwhile for the next
    watch, and BridgeError where a pooler stands in between: it gives no session to listen in.
    """

    after_commit = True

    def __init__(self, reconnection: Reconnection) -> None:
        self._reconnection = reconnection
        self._connection = reconnection.get(time.monotonic() + _CONNECT_S)
        if reconnection.pooled:
            self.close()
            raise BridgeError(
                f"{reconnection.server} is a pooler, through which no news comes",
                "Name the server itself in [bridge] listen_url.",
            )
        self._execute(f"LISTEN {CHANNEL}")
        self._probe_at = time.monotonic() + PROBE_S

    def fileno(self) -> int:
        if self._connection.closed:
            raise BridgeError("the watch was closed")
        return self._connection.fileno()

    def read(self) -> bool:
        self._connection.deadline = time.monotonic() + _REPLY_S
        try:
            mine = self._connection.info.backend_pid
            sent = [one.pid for one in self._connection.notifies(timeout=0)]
            return any(pid != mine for pid in sent)
        except psycopg.Error as error:
            self.close()
            raise explain(error, self._reconnection.server) from error

    def drop(self) -> None:
        """Drop nothing: what others have sent may concern what was not seen yet."""

    def notify(self) -> None:
        """Let all others look; a lost one costs them a second."""
        self._execute(NOTIFY)

    def require_alive(self) -> None:
        """See now and then that the server still sends here; raise BridgeError if it does not."""
        if time.monotonic() < self._probe_at:
            return
        self._probe_at = time.monotonic() + PROBE_S
        if (CHANNEL,) not in self._execute("SELECT pg_listening_channels()"):
            self.close()
            raise unavailable(self._reconnection.server, "it no longer sends news here")

    def close(self) -> None:
        if self._reconnection.connection is self._connection:
            self._reconnection.drop()

    def _execute(self, statement: str) -> list[tuple[str]]:
        self._connection.deadline = time.monotonic() + _REPLY_S
        try:
            cursor = self._connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            self.close()
            raise explain(error, self._reconnection.server) from error
