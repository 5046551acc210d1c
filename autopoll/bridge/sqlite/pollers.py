"""The pollers that answer for the store: which home each belongs to, and until when it lives."""

import os

from autopoll import __version__
from autopoll.bridge.sqlite.connection import Database


class Pollers:
    """A row for the last poller of each home; used within the transaction of the caller."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def enter(self, owner: str, home: str, beat_until: int) -> None:
        """Put a poller in the place of the one before it in its home."""
        self._db.rows("DELETE FROM pollers WHERE home=?", (home,))
        self._db.rows(
            "INSERT INTO pollers(owner,home,host,version,beat_until) VALUES(?,?,?,?,?)",
            (owner, home, os.uname().nodename, __version__, beat_until),
        )

    def beat(self, owner: str, beat_until: int) -> None:
        """Note that a poller lives, until a time that it has to beat before."""
        self._db.rows("UPDATE pollers SET beat_until=? WHERE owner=?", (beat_until, owner))

    def is_due(self, owner: str, now: int, lease_ms: int) -> bool:
        """Return whether less than half a lease is left until a poller has to beat."""
        rows = self._db.rows(
            "SELECT beat_until FROM pollers WHERE owner=? AND beat_until BETWEEN ? AND ?",
            (owner, now + lease_ms // 2, now + lease_ms),  # further off: the clock was set back
        )
        return not rows
