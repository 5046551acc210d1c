"""The pollers that answer for the store: which home each belongs to, and until when it lives."""

import json
from collections.abc import Sequence

import msgspec

from autopoll.bridge.records import Answerer, AnsweringHome
from autopoll.bridge.sql.database import Database

_KEPT_MS = 7 * 24 * 3600 * 1000  # for which a home is shown that no longer beats


class Pollers:
    """A row for the last poller of each home; used within the transaction of the caller."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._entered: Answerer | None = None

    def enter(self, poller: Answerer, now: int, lease_ms: int) -> None:
        """Put a poller in the place of the one before it in its home."""
        self._entered = poller
        self._db.rows("DELETE FROM pollers WHERE home=?", (poller.home,))
        self._db.rows(
            "INSERT INTO pollers(owner,home,host,version,folder,shards,beat_at,beat_until)"
            " VALUES(?,?,?,?,?,?,?,?)",
            (poller.owner, poller.home, poller.host, poller.version, poller.folder,
             json.dumps(poller.shards), now, now + lease_ms),
        )  # fmt: skip

    def beat(self, owner: str, now: int, lease_ms: int) -> None:
        """Note that a poller lives, and for how long it need not beat.

        Its row is made again where it was removed; the row of a later poller of its home stays.
        """
        known = self._db.rows(
            "UPDATE pollers SET beat_at=?, beat_until=? WHERE owner=? RETURNING owner",
            (now, now + lease_ms, owner),
        )
        mine = self._entered
        if known or mine is None or mine.owner != owner:
            return
        if not self._db.rows("SELECT owner FROM pollers WHERE home=?", (mine.home,)):
            self.enter(mine, now, lease_ms)

    def set_shards(self, owner: str, shards: Sequence[str]) -> None:
        """Note which shards a poller serves."""
        if self._entered and self._entered.owner == owner:
            self._entered = msgspec.structs.replace(self._entered, shards=list(shards))
        self._db.rows(
            "UPDATE pollers SET shards=? WHERE owner=?", (json.dumps(list(shards)), owner)
        )

    def leave(self, owner: str, now: int) -> None:
        """Note that a poller has ended."""
        self._db.rows("UPDATE pollers SET beat_at=?, beat_until=? WHERE owner=?", (now, now, owner))

    def is_due(self, owner: str, now: int, lease_ms: int) -> bool:
        """Return whether less than half a lease is left until a poller has to beat."""
        rows = self._db.rows(
            "SELECT beat_until FROM pollers WHERE owner=? AND beat_until BETWEEN ? AND ?",
            (owner, now + lease_ms // 2, now + lease_ms),  # further off: the clock was set back
        )
        return not rows

    def are_gone(self) -> bool:
        """Return whether there are rows to remove."""
        before = self._db.clock() - _KEPT_MS
        return bool(self._db.rows("SELECT 1 FROM pollers WHERE beat_until<? LIMIT 1", (before,)))

    def remove_gone(self, now: int) -> None:
        """Remove the rows of homes that have not been alive for a week."""
        self._db.rows("DELETE FROM pollers WHERE beat_until<?", (now - _KEPT_MS,))

    def homes(self) -> list[AnsweringHome]:
        """Return what is known of each home."""
        now = self._db.clock()
        rows = self._db.rows(
            "SELECT host, home, folder, version, shards, beat_at, beat_until,"
            " (SELECT count(*) FROM deliveries d WHERE d.state='leased' AND d.owner=p.owner)"
            " FROM pollers p ORDER BY host, folder, home"
        )
        return [
            AnsweringHome(
                host=host,
                home=home,
                folder=folder,
                version=version,
                shards=json.loads(shards),
                beat_age_ms=max(0, now - beat_at),
                alive=now < beat_until,
                in_flight=in_flight,
            )
            for host, home, folder, version, shards, beat_at, beat_until, in_flight in rows
        ]
