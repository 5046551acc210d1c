"""Claims, and what ends them, for one of several homes.

Two guards carry everything: the unique index `d_head` lets at most one delivery of a lane be ready
or leased, and a settle must name the fence and the owner of its claim. Since a lane has one that
is ready, what others are claiming can be skipped, and the order holds.
"""

from collections.abc import Iterable, Mapping, Sequence

from autopoll.bridge.postgres.connection import DIALECT, PostgresDatabase
from autopoll.bridge.postgres.enrolment import LARGEST, PendingWork, PostgresEnrolment
from autopoll.bridge.records import (
    Answerer,
    BridgeLimits,
    Delivery,
    Settled,
)
from autopoll.bridge.sql.costs import Costs
from autopoll.bridge.sql.delivery_store import Claimed, SqlDeliveries
from autopoll.bridge.sql.held_delivery import HeldDelivery
from autopoll.bridge.sql.lanes import CLOCK_SLACK_MS, DUE, Lanes
from autopoll.bridge.sql.placement import Lease, with_room
from autopoll.bridge.sql.rows import metadata_column
from autopoll.errors import AlreadyRunning

_REAPER = "autopoll reaper"  # of the lock that one host at a time holds
# Which rows are taken is settled, once, before they are changed; what others have locked is left.
_CLAIM = f"""WITH picked AS MATERIALIZED (
    SELECT p.message_id
    FROM unnest(CAST(:shards AS TEXT[]), CAST(:rooms AS INTEGER[])) s(shard, room)
    CROSS JOIN LATERAL (
      SELECT d.message_id FROM deliveries d WHERE d.state='ready' AND d.shard=s.shard AND {DUE}
      ORDER BY d.message_id LIMIT s.room FOR UPDATE SKIP LOCKED) p),
  sized AS (
    SELECT message_id, sum(size) OVER (ORDER BY message_id)-size AS before FROM (
      SELECT p.message_id, coalesce(octet_length(m.message),0) AS size
      FROM picked p LEFT JOIN messages m ON m.id=p.message_id) l)
  UPDATE deliveries d SET state='leased', attempts=d.attempts+1, fence=d.fence+1, owner=:owner,
    lease_until=:until, changed_at=:now
  FROM sized LEFT JOIN messages m ON m.id=sized.message_id
  WHERE d.message_id=sized.message_id AND sized.before<{LARGEST}
  RETURNING d.message_id, d.conversation_id, d.to_session, d.shard, d.lane, d.fence, d.attempts,
    d.enrolled_at, coalesce(octet_length(m.message),0)<=:max,
    CASE WHEN octet_length(m.message)<=:max THEN m.message END, {metadata_column(DIALECT)}"""
# In the order in which a reap locks them, too.
_RENEW = """WITH mine AS MATERIALIZED (
    SELECT d.message_id FROM deliveries d
    JOIN unnest(CAST(:numbers AS BIGINT[]), CAST(:fences AS INTEGER[])) l(number, fence)
      ON d.message_id=l.number AND d.fence=l.fence
    WHERE d.state='leased' AND d.owner=:owner ORDER BY d.message_id FOR UPDATE OF d)
  UPDATE deliveries d SET lease_until=:until, changed_at=:now FROM mine
  WHERE d.message_id=mine.message_id RETURNING d.message_id"""
_EARLIER = "d.owner IN (SELECT owner FROM pollers WHERE home=:home AND owner<>:owner)"
_LATE = """SELECT message_id FROM deliveries WHERE state='leased'
  AND (lease_until<autopoll.now_ms() OR changed_at>autopoll.now_ms()+:slack)
  ORDER BY message_id LIMIT 200"""  # of which each takes time; the next reap goes on


class PostgresDeliveries(SqlDeliveries):
    """The DeliveryStore."""

    _db: PostgresDatabase

    def __init__(self, db: PostgresDatabase, limits: BridgeLimits, costs: Costs) -> None:
        self._enrolment = PostgresEnrolment(db, limits)
        super().__init__(db, limits, costs, Lanes(db), self._enrolment)

    def take_over(self, answerer: Answerer, lease_ms: int) -> int:
        mine = {"home": answerer.home, "owner": answerer.owner}
        with self._db.writing():
            self._db.lock_key(f"home {answerer.home}")  # there may be no row of it to lock
            now = self._db.clock()
            self._refuse_copy(answerer, now)
            held = self._locked(_EARLIER, mine)
            self._settlement.end_for_dead(held, now)
            self._pollers.enter(answerer, now, lease_ms)
        return len(held)

    def claim(self, owner: str, wanted: Mapping[str, int], lease_ms: int) -> list[Delivery]:
        work = self._enrolment.find_work(with_room(wanted))
        if not (work.unseen or work.ready):
            return []
        with self._db.writing(durable=False):
            return self._claim_found(work, self._lease(owner, wanted, lease_ms)).deliveries

    def renew(self, leases: Iterable[tuple[int, int]], owner: str, lease_ms: int) -> set[int]:
        held = list(leases)
        if not (held or self._pollers.is_due(owner, self._db.clock(), lease_ms)):
            return set()
        with self._db.writing(durable=False):
            now = self._db.clock()
            self._pollers.beat(owner, now, lease_ms)
            rows = self._db.rows(
                _RENEW,
                {
                    "numbers": [number for number, _ in held],
                    "fences": [fence for _, fence in held],
                    "owner": owner, "now": now, "until": now + lease_ms,
                },
            )  # fmt: skip
        return {number for (number,) in rows}

    def reap(self) -> list[Settled]:
        late = [number for (number,) in self._db.rows(_LATE, {"slack": CLOCK_SLACK_MS})]
        headless = self._lanes.headless()
        cancelled = self._lanes.cancelled()
        if not (late or headless or cancelled or self._pollers.are_gone()):
            return []
        with self._db.writing():
            if not self._db.try_lock(_REAPER):
                return []  # another host reaps
            now = self._db.clock()
            self._db.lock_conversations(
                {lane.rpartition("/")[0] for lane in headless}, [*late, *cancelled]
            )
            ended = self._settlement.fail(self._expired(late, now), "the lease expired", now)
            self._lanes.promote(headless, now)
            ended += self._settlement.end_cancelled(cancelled, now)
            self._pollers.remove_gone(now)
        return ended

    def _enrol(self) -> bool:
        work = self._enrolment.find_work([])
        if work.unseen:
            with self._db.writing(durable=False):
                self._claim_found(work, self._lease("", {}, 0))
        return work.unseen

    def _expired(self, late: Sequence[int], now: int) -> list[HeldDelivery]:
        """Return those of which the lease has expired, if not renewed meanwhile."""
        among = "message_id=ANY(CAST(:late AS BIGINT[])) AND state='leased'"
        values = {"late": list(late), "now": now, "future": now + CLOCK_SLACK_MS}
        # After the clock was set back a lease lasts its length from now on, no longer.
        self._db.rows(
            "UPDATE deliveries SET lease_until=:now+lease_until-changed_at, changed_at=:now"
            f" WHERE {among} AND changed_at>:future",
            values,
        )
        return self._settlement.held(
            "AND d.message_id=ANY(CAST(:late AS BIGINT[])) AND d.lease_until<:now", values
        )

    def _refuse_copy(self, answerer: Answerer, now: int) -> None:
        """Raise AlreadyRunning while the same home lives elsewhere."""
        rows = self._db.rows(
            "SELECT host, folder, beat_until FROM pollers WHERE home=:home AND beat_until>:now"
            " AND beat_at<=:now+:slack AND (host<>:host OR folder<>:folder) FOR UPDATE",
            {
                "home": answerer.home, "host": answerer.host, "folder": answerer.folder,
                "now": now, "slack": CLOCK_SLACK_MS,
            },
        )  # fmt: skip
        for host, folder, until in rows:
            raise AlreadyRunning(
                f"the home {answerer.folder} is the same as {folder} on {host}, which is alive",
                f"Delete var/home.id in the copy; or wait {(until - now) // 1000 + 1} s, when the"
                " other was moved here or is dead.",
            )

    def _claim(self, lease: Lease) -> Claimed:
        return self._claim_found(self._enrolment.find_work(with_room(lease.room)), lease)

    def _claim_found(self, work: PendingWork, lease: Lease) -> Claimed:
        """Claim what is ready, then enrol what is new."""
        claimed = self._claim_ready(with_room(lease.room), lease) if work.ready else []
        for each in claimed:
            lease.room[each.shard] -= 1
        enrolled = self._enrolment.enrol(lease) if work.unseen else []
        return Claimed(claimed + enrolled, not work.unseen, lambda: None)

    def _claim_ready(self, shards: Sequence[str], lease: Lease) -> list[Delivery]:
        rows = self._db.rows(
            _CLAIM,
            {
                "shards": shards, "rooms": [lease.room[shard] for shard in shards],
                "owner": lease.owner, "now": lease.now, "until": lease.until,
                "max": self._max_message,
            },
        )  # fmt: skip
        return [
            Delivery(
                message_id=message_id,
                conversation=conversation,
                session=session,
                shard=shard,
                lane=lane,
                text=(text or "") if small else None,
                metadata=metadata,
                fence=fence,
                attempt=attempt,
                enrolled_at=enrolled,
            )
            for message_id, conversation, session, shard, lane, fence, attempt, enrolled, small,
            text, metadata in sorted(rows)
        ]  # fmt: skip
