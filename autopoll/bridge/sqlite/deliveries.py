"""Claims, and what ends them.

Two guards carry everything: the unique index `d_head` lets at most one delivery of a lane be ready
or leased, and a settle must name the fence of its claim.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from autopoll.bridge.records import BridgeLimits, Delivery, Outcome, Settled
from autopoll.bridge.sqlite.connection import Database
from autopoll.bridge.sqlite.costs import Costs
from autopoll.bridge.sqlite.driver_errors import OF_ONE_ROW, log_error
from autopoll.bridge.sqlite.enrolment import Enrolment, Lease, Work
from autopoll.bridge.sqlite.lanes import CLOCK_SLACK_MS, DUE, Lanes
from autopoll.bridge.sqlite.rows import METADATA, readable
from autopoll.bridge.sqlite.settlement import Settlement
from autopoll.home.lock import acquire

FREE_CLAIMS = 20  # claims up to which the death of an owner costs the query no attempt
_READY = f"""SELECT d.message_id, d.conversation_id, d.to_session, d.lane, d.fence, d.attempts,
    d.enrolled_at, coalesce(octet_length(m.message),0)<=:max,
    CASE WHEN octet_length(m.message)<=:max THEN CAST(m.message AS BLOB) END, {METADATA}
  FROM deliveries d LEFT JOIN messages m ON m.id=d.message_id
  WHERE d.state='ready' AND d.shard=:shard AND {DUE} ORDER BY d.message_id LIMIT :count"""

_Result = TypeVar("_Result")
_Settle = Callable[[Sequence[Outcome], int], list[Settled]]


class SqliteDeliveries:
    """The DeliveryStore."""

    def __init__(self, db: Database, limits: BridgeLimits, costs: Costs) -> None:
        self._db = db
        self._max_message = limits.max_message
        self._lanes = Lanes(db)
        self._enrolment = Enrolment(db, limits, self._lanes)
        self._settlement = Settlement(db, limits, self._lanes, costs)
        self._lock: int | None = None  # descriptor of the answerer's lock

    def close(self) -> None:
        """Stop being the answerer; tolerated twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def take_over(self, owner: str) -> int:
        if self._lock is None:
            path = self._db.path
            self._lock = acquire(path.with_name(f"{path.name}-poller.lock"), f"a poller of {path}")
        with self._db.writing():
            now = self._db.clock()
            held = self._settlement.held("AND d.owner<>:owner", {"owner": owner})
            for delivery in held:
                if delivery.fence <= FREE_CLAIMS:
                    self._settlement.release(delivery, now)
                else:
                    self._settlement.try_fail(delivery, "its poller died", now)
        return len(held)

    def claim(self, owner: str, wanted: Mapping[str, int], lease_ms: int) -> list[Delivery]:
        work = self._enrolment.find_work(_with_room(wanted), self._db.clock())
        if not (work.unread or work.ready):
            self._enrolment.advance(work.newest, work.newest)
            return []
        with self._db.writing(durable=False):
            claimed, beyond = self._claim(work, wanted, owner, lease_ms)
        self._enrolment.advance(beyond, work.newest)
        return claimed

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        def commit(settle: _Settle) -> list[Settled]:
            with self._db.writing():
                return settle(outcomes, self._db.clock())

        return self._commit(commit) if outcomes else []

    def settle_and_claim(
        self, outcomes: Sequence[Outcome], owner: str, wanted: Mapping[str, int], lease_ms: int
    ) -> tuple[list[Settled], list[Delivery]]:
        def commit(settle: _Settle) -> tuple[list[Settled], list[Delivery]]:
            with self._db.writing():
                now = self._db.clock()
                settled = settle(outcomes, now)
                work = self._enrolment.find_work(_with_room(wanted), now)
                claimed, beyond = self._claim(work, wanted, owner, lease_ms)
            self._enrolment.advance(beyond, work.newest)
            return settled, claimed

        if not outcomes:
            return [], self.claim(owner, wanted, lease_ms)
        return self._commit(commit)

    def renew(self, leases: Iterable[tuple[int, int]], lease_ms: int) -> set[int]:
        held = list(leases)
        if not held:
            return set()
        with self._db.writing(durable=False):
            now = self._db.clock()
            rows = [
                self._db.rows(
                    "UPDATE deliveries SET lease_until=?, changed_at=?"
                    " WHERE message_id=? AND fence=? AND state='leased' RETURNING message_id",
                    (now + lease_ms, now, message_id, fence),
                )
                for message_id, fence in held
            ]
        return {row[0][0] for row in rows if row}

    def reap(self) -> list[Settled]:
        self._db.cut_log()
        values = {"now": self._db.clock(), "future": self._db.clock() + CLOCK_SLACK_MS}
        ((expired, moved),) = self._db.rows(
            "SELECT EXISTS(SELECT 1 FROM deliveries WHERE state='leased' AND lease_until<:now),"
            " EXISTS(SELECT 1 FROM deliveries WHERE state='leased' AND changed_at>:future)",
            values,
        )
        headless = self._lanes.headless()
        if not (expired or moved or headless):
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
            ended = [self._settlement.try_fail(one, "the lease expired", now) for one in late]
            for lane in headless:
                self._lanes.promote(lane, now)
        return [settled for settled in ended if settled]

    def _commit(self, commit: Callable[[_Settle], _Result]) -> _Result:
        """Settle all outcomes together or, when the store refuses one of them, one by one."""
        try:
            return commit(self._settlement.settle)
        except OF_ONE_ROW as error:
            log_error(f"settling one by one: {error}")
            return commit(self._settlement.settle_one_by_one)

    def _claim(
        self, work: Work, wanted: Mapping[str, int], owner: str, lease_ms: int
    ) -> tuple[list[Delivery], int]:
        """Claim what is ready, then enrol what is new; also return up to which id was looked."""
        now = self._db.clock()
        lease, room = Lease(owner, now, now + lease_ms), dict(wanted)
        claimed: list[Delivery] = []
        for shard in _with_room(wanted) if work.ready else ():
            ready = self._claim_ready(shard, room[shard], lease)
            room[shard] -= len(ready)
            claimed += ready
        if not work.unread:
            return claimed, work.newest
        leased, beyond = self._enrolment.enrol(work.newest, room, lease)
        return claimed + leased, beyond

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


def _with_room(wanted: Mapping[str, int]) -> list[str]:
    return [shard for shard, count in wanted.items() if count > 0]
