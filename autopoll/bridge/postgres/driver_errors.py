"""What an error of the driver means: the one place that translates them."""

import psycopg
from psycopg import errors

from autopoll.errors import (
    BridgeBusy,
    BridgeError,
    BridgeFull,
    BridgeUnavailable,
    RowRefused,
)

# By SQLSTATE; https://www.postgresql.org/docs/current/errcodes-appendix.html
_BUSY = {"40001", "40P01", "55P03", "57014"}  # serialization, deadlock, lock and statement timeouts
_FULL = {"53100", "53200"}  # disk, memory
_AWAY = ("08", "57P")  # of the connection; shut down, crashed, starting
_MISSING = {"3F000", "42P01", "42883", "42703"}  # schema, table, function, column
# Data, integrity, a check option, a limit such as that of an index, raised by a trigger.
_OF_ONE_ROW = ("22", "23", "44", "54", "P0")
READ_ONLY = "25006"


def explain(error: psycopg.Error, server: str) -> BridgeError:
    """Return the error to raise; `server` names it without a password."""
    state, words = error.sqlstate or "", _words(error)
    if state in _BUSY:
        return BridgeBusy(
            f"{server} is busy: {words}", "Try again; pg_stat_activity names who holds the lock."
        )
    if state in _FULL:
        what = f"no room to write in {server}: {words}; nothing was changed"
        return BridgeFull(what, "Make room on the server's disk.")
    if state == READ_ONLY:
        return BridgeUnavailable(
            f"{server} takes no writes: {words}",
            "It is a standby, or was made one; name the primary, or all of them, in [bridge] url.",
        )
    if state == "42501":
        return BridgeError(
            f"{server} refuses this role: {words}",
            "As the owner of the schema: GRANT … as `autopoll bridge sql` prints it.",
        )
    if state in _MISSING:
        return BridgeError(
            f"{server} lacks a part of autopoll's schema: {words}",
            "Make it with: autopoll init --bridge URL, as a role that may create it.",
        )
    if state.startswith(_OF_ONE_ROW) or isinstance(error, psycopg.DataError):
        return RowRefused(f"{server}: {words}", "Was its schema changed, or has it a trigger?")
    if state.startswith(_AWAY) or isinstance(error, psycopg.OperationalError):
        return unavailable(server, words)
    return BridgeError(f"{server}: {words}", "Was its schema changed by another program?")


def unavailable(server: str, words: str) -> BridgeUnavailable:
    """Return the error for a server that does not answer, or no longer, or refuses to connect.

    Why one is refused, the driver says in words alone.
    """
    what = f"{server} cannot be reached: {words}"
    if "certificate verify failed" in words:  # libpq says no more
        return BridgeUnavailable(
            what,
            "The server's certificate has expired, or is of an authority that sslrootcert does not "
            "name. See: openssl s_client -starttls postgres -connect HOST:5432",
        )
    return BridgeUnavailable(
        what,
        "It is tried again; check that the server runs, and that it takes this host, user and "
        "database: password, pg_hba.conf, max_connections.",
    )


def is_lost(error: psycopg.Error) -> bool:
    """Tell whether the connection is of no more use: what it waited for is unknown."""
    state = error.sqlstate or ""
    return (
        state == READ_ONLY
        or state.startswith(_AWAY)
        or (not state and isinstance(error, psycopg.OperationalError | errors.InterfaceError))
    )


def _words(error: psycopg.Error) -> str:
    """Return the driver's words in one line."""
    primary = error.diag.message_primary if error.sqlstate else None
    return " ".join((primary or str(error) or type(error).__name__).split())
