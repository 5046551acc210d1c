"""Claims, and what ends them.

Two guards carry everything: the unique index `d_head` lets at most one delivery of a lane be ready
or leased, and a settle must name the fence and the owner of its claim.
"""

import os
from collections.abc import Iterable, Mapping
from functools import partial

from autopoll.bridge.records import (
    Answerer,
    BridgeLimits,
    Delivery,
    Settled,
)
from autopoll.bridge.sql.costs import Costs
from autopoll.bridge.sql.delivery_store import Claimed, SqlDeliveries
from autopoll.bridge.sql.lanes import CLOCK_SLACK_MS, DUE, Lanes
from autopoll.bridge.sql.placement import Lease, with_room
from autopoll.bridge.sql.rows import metadata_column, readable
from autopoll.bridge.sqlite import log_room
from autopoll.bridge.sqlite.connection import DIALECT, SqliteDatabase
from autopoll.bridge.sqlite.enrolment import SqliteEnrolment, Work
from autopoll.home.lock import acquire

_READY = f"""SELECT d.message_id, d.conversation_id, d.to_session, d.lane, d.fence, d.attempts,
    d.enrolled_at, coalesce(octet_length(m.message),0)<=:max,
    CASE WHEN octet_length(m.message)<=:max THEN CAST(m.message AS BLOB) END,
    {metadata_column(DIALECT)}
  FROM deliveries d LEFT JOIN messages m ON m.id=d.message_id
  WHERE d.state='ready' AND d.shard=:shard AND {DUE} ORDER BY d.message_id LIMIT :count"""


class SqliteDeliveries(SqlDeliveries):
    """The DeliveryStore."""

    _db: SqliteDatabase

    def __init__(self, db: SqliteDatabase, limits: BridgeLimits, costs: Costs) -> None:
        lanes = Lanes(db)
        self._enrolment = SqliteEnrolment(db, limits, lanes)
        super().__init__(db, limits, costs, lanes, self._enrolment)
        self._lock: int | None = None  # descriptor of the answerer's lock

    def close(self) -> None:
        """Stop being the answerer; tolerated twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def take_over(self, answerer: Answerer, lease_ms: int) -> int:
        if self._lock is None:
            path = self._db.path
            self._lock = acquire(path.with_name(f"{path.name}-poller.lock"), f"a poller of {path}")
            log_room.reserve(self._db)
        with self._db.writing():
            now = self._db.clock()
            # Of whatever home: the lock proves that no other poller of this file lives.
            held = self._locked("d.owner<>:owner", {"owner": answerer.owner})
            self._settlement.end_for_dead(held, now)
            self._pollers.enter(answerer, now, lease_ms)
        return len(held)

    def claim(self, owner: str, wanted: Mapping[str, int], lease_ms: int) -> list[Delivery]:
        work = self._enrolment.find_work(with_room(wanted), self._db.clock())
        if not (work.unread or work.ready):
            self._enrolment.advance(work.newest, work.newest)
            return []
        with self._db.writing(durable=False):
            claimed = self._claim_found(work, self._lease(owner, wanted, lease_ms))
        claimed.committed()
        return claimed.deliveries

    def renew(self, leases: Iterable[tuple[int, int]], owner: str, lease_ms: int) -> set[int]:
        held = list(leases)
        if not (held or self._pollers.is_due(owner, self._db.clock(), lease_ms)):
            return set()
        with self._db.writing(durable=False):
            now = self._db.clock()
            self._pollers.beat(owner, now, lease_ms)
            rows = [
                self._db.rows(
                    "UPDATE deliveries SET lease_until=?, changed_at=?"
                    " WHERE message_id=? AND fence=? AND owner=? RETURNING message_id",
                    (now + lease_ms, now, message_id, fence, owner),
                )
                for message_id, fence in held
            ]
        return {row[0][0] for row in rows if row}

    def reap(self) -> list[Settled]:
        self._db.cut_log()
        self._db.drop_cache()
        values = {"now": self._db.clock(), "future": self._db.clock() + CLOCK_SLACK_MS}
        ((expired, moved),) = self._db.rows(
            "SELECT EXISTS(SELECT 1 FROM deliveries WHERE state='leased' AND lease_until<:now),"
            " EXISTS(SELECT 1 FROM deliveries WHERE state='leased' AND changed_at>:future)",
            values,
        )
        headless = self._lanes.headless()
        cancelled = self._lanes.cancelled()
        if not (expired or moved or headless or cancelled or self._pollers.are_gone()):
            return []
        with self._db.writing():
            now = self._db.clock()
            # After the clock was set back a lease lasts its length from now on, no longer.
            self._db.rows(
                "UPDATE deliveries SET lease_until=:now+lease_until-changed_at, changed_at=:now"
                " WHERE state='leased' AND changed_at>:future",
                values,
            )
            late = self._settlement.held("AND d.lease_until<:now", {"now": now})
            ended = self._settlement.fail(late, "the lease expired", now)
            self._lanes.promote(headless, now)
            ended += self._settlement.end_cancelled(cancelled, now)
            self._pollers.remove_gone(now)
        return ended

    def _enrol(self) -> bool:
        work = self._enrolment.find_work([], self._db.clock())
        if not work.unread:
            return False
        with self._db.writing(durable=False):
            claimed = self._claim_found(work, self._lease("", {}, 0))
        claimed.committed()
        return not claimed.all_enrolled

    def _claim(self, lease: Lease) -> Claimed:
        return self._claim_found(self._enrolment.find_work(with_room(lease.room), lease.now), lease)

    def _claim_found(self, work: Work, lease: Lease) -> Claimed:
        """Claim what is ready, then enrol what is new."""
        claimed: list[Delivery] = []
        for shard in with_room(lease.room) if work.ready else ():
            ready = self._claim_ready(shard, lease.room[shard], lease)
            lease.room[shard] -= len(ready)
            claimed += ready
        beyond = work.newest
        if work.unread:
            leased, beyond = self._enrolment.enrol(work.newest, lease)
            claimed += leased
        advance = partial(self._enrolment.advance, beyond, work.newest)
        return Claimed(claimed, beyond >= work.newest, advance)

    def _claim_ready(self, shard: str, count: int, lease: Lease) -> list[Delivery]:
        rows = self._db.rows(
            _READY,
            {"shard": shard, "count": count, "now": lease.now, "max": self._max_message},
        )
        claimed = [
            Delivery(
                message_id=message_id,
                conversation=conversation,
                session=session,
                shard=shard,
                lane=lane,
                text=(readable(text) or "") if small else None,
                metadata=readable(metadata),
                fence=fence + 1,
                attempt=attempts + 1,
                enrolled_at=enrolled,
            )
            for message_id, conversation, session, lane, fence, attempts, enrolled, small, text,
            metadata in rows
        ]  # fmt: skip
        # One by one: `IN (SELECT …)` costs 200 us where the number costs 30, and claims are few.
        self._db.many(
            "UPDATE deliveries SET state='leased', attempts=attempts+1, fence=fence+1,"
            " owner=?, lease_until=?, changed_at=? WHERE message_id=?",
            [(lease.owner, lease.until, lease.now, one.message_id) for one in claimed],
        )
        return claimed
