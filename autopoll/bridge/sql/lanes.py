"""The order of deliveries: a lane hands out its head only, and a head when it is due."""

from collections.abc import Iterable

from autopoll.bridge.sql.database import Database

CLOCK_SLACK_MS = 2_000  # a row written further in the future than this: the clock was set back

# Of what was cancelled while others were before it: it is answered in its turn, and not claimed.
CANCELLED = 1 << 62
# Due again; also when the clock was set back, as it is unknown then how long to wait.
DUE = f"(d.not_before<=:now OR d.changed_at>:now+{CLOCK_SLACK_MS} AND d.not_before<{CANCELLED})"


CANARY_LANES = "canary:%"  # as LIKE has it; no conversation's, which has a slash


def own_lane(message_id: int, *, canary: bool = False) -> str:
    """Return the lane of an independent question; a canary's says so, as it counts for nothing."""
    return f"canary:{message_id}" if canary else f"m{message_id}"


def is_canary(lane: str) -> bool:
    """Tell whether a lane is that of a canary."""
    return lane.startswith(CANARY_LANES[:-1]) and not _is_shared(lane)


class Lanes:
    """Heads of lanes; used within the transaction that changes deliveries."""

    def __init__(self, db: Database) -> None:
        self._db = db
        # At the head of a lane that more than one may be in; in the words of the index d_head.
        shared = db.dialect.contains.format("lane", "'/'")
        self._head = f"state IN ('ready','leased') AND {shared}"

    def is_free(self, lane: str) -> bool:
        """Return whether a lane has no unsettled delivery."""
        if not _is_shared(lane):
            return True
        rows = self._db.rows(
            f"SELECT 1 WHERE EXISTS(SELECT 1 FROM deliveries WHERE lane=:lane AND {self._head})"
            " OR EXISTS(SELECT 1 FROM deliveries WHERE lane=:lane AND state='queued')",
            {"lane": lane},
        )
        return not rows

    def promote(self, lanes: Iterable[str], now: int) -> None:
        """Make the oldest queued delivery of each lane ready if the lane has no head."""
        self._db.many(
            "UPDATE deliveries SET state='ready', changed_at=:now WHERE message_id=(SELECT"
            " min(message_id) FROM deliveries WHERE lane=:lane AND state='queued') AND NOT EXISTS"
            f"(SELECT 1 FROM deliveries WHERE lane=:lane AND {self._head})",
            [{"lane": lane, "now": now} for lane in lanes if _is_shared(lane)],
        )

    def cancelled(self) -> list[int]:
        """Return heads that were cancelled while they waited for their turn.

        There are none unless a program of an earlier version, or a mend, has made them heads, or
        more were cancelled in one lane than are ended in one transaction.
        """
        rows = self._db.rows(
            "SELECT message_id FROM deliveries WHERE state='ready'"
            f" AND not_before>={CANCELLED} LIMIT 100"
        )
        return [number for (number,) in rows]

    def headless(self) -> list[str]:
        """Return lanes that wait without a head; there are none unless another program deleted it.

        Jumps from lane to lane in the index: a lane of 10,000 queued costs one step.
        """
        rows = self._db.rows(
            "WITH RECURSIVE l(lane) AS (SELECT min(lane) FROM deliveries WHERE state='queued'"
            " UNION ALL SELECT (SELECT min(lane) FROM deliveries WHERE state='queued'"
            " AND lane>l.lane) FROM l WHERE l.lane IS NOT NULL) SELECT lane FROM l"
            " WHERE lane IS NOT NULL AND NOT EXISTS(SELECT 1 FROM deliveries d"
            f" WHERE d.lane=l.lane AND {self._head})"
        )
        return [lane for (lane,) in rows]


def _is_shared(lane: str) -> bool:
    """Return whether it is a conversation's lane; that of an independent question has no slash."""
    return "/" in lane
