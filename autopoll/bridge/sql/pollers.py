"""The pollers that answer for the store: which home each belongs to, and until when it lives."""

import json
from collections.abc import Sequence

from autopoll.bridge.records import Answerer, AnsweringHome
from autopoll.bridge.sql.database import Database


class Pollers:
    """A row for the last poller of each home; used within the transaction of the caller."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def enter(self, poller: Answerer, now: int, lease_ms: int) -> None:
        """Put a poller in the place of the one before it in its home."""
        self._db.rows("DELETE FROM pollers WHERE home=?", (poller.home,))
        self._db.rows(
            "INSERT INTO pollers(owner,home,host,version,folder,shards,beat_at,beat_until)"
            " VALUES(?,?,?,?,?,?,?,?)",
            (poller.owner, poller.home, poller.host, poller.version, poller.folder,
             json.dumps(poller.shards), now, now + lease_ms),
        )  # fmt: skip

    def beat(self, owner: str, now: int, lease_ms: int) -> None:
        """Note that a poller lives, and for how long it need not beat."""
        self._db.rows(
            "UPDATE pollers SET beat_at=?, beat_until=? WHERE owner=?", (now, now + lease_ms, owner)
        )

    def set_shards(self, owner: str, shards: Sequence[str]) -> None:
        """Note which shards a poller serves."""
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
