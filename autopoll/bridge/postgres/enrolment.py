"""How unread messages become deliveries, on any of several hosts at once.

Everybody, autopoll's own senders included, only inserts a message with read=0 and the mark
`unseen`. What takes the mark away has looked at it, in a transaction that has locked the
conversation: in each one poller at a time looks, at all that is committed.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from autopoll.bridge.postgres.connection import DIALECT, PostgresDatabase
from autopoll.bridge.records import BridgeLimits, Delivery
from autopoll.bridge.sql.arrivals import CheckedArrival
from autopoll.bridge.sql.lanes import DUE
from autopoll.bridge.sql.placement import Enrollable, Lease, Placement, insert_arrivals
from autopoll.bridge.sql.routes import Routes
from autopoll.bridge.sql.rows import metadata_column
from autopoll.message import is_answerable, read_envelope

# Messages that are enrolled in one transaction, and bytes of them: it is to end within a call.
BATCH, LARGEST = 1000, 16 << 20

_WORK = f"""SELECT
  EXISTS(SELECT 1 FROM messages WHERE unseen AND read=0)
    OR EXISTS(SELECT 1 FROM routes WHERE unseen),
  EXISTS(SELECT 1 FROM deliveries d WHERE d.state='ready'
    AND d.shard=ANY(CAST(:shards AS TEXT[])) AND {DUE.replace(":now", "autopoll.now_ms()")})"""
_UNSEEN = f"""SELECT DISTINCT conversation_id FROM (
    (SELECT conversation_id FROM messages WHERE unseen AND read=0 ORDER BY id LIMIT {BATCH})
    UNION ALL (SELECT conversation_id FROM routes WHERE unseen ORDER BY id LIMIT {BATCH})) u"""
_LOCK = """SELECT id FROM conversations WHERE id=ANY(CAST(:names AS TEXT[]))
  ORDER BY id FOR NO KEY UPDATE SKIP LOCKED"""
_EXIST = "SELECT id FROM conversations WHERE id=ANY(CAST(:names AS TEXT[]))"
# What came before its session was served has been looked at already.
_MARK_AGAIN = """UPDATE messages m SET unseen=true FROM routes r
  WHERE r.unseen AND r.conversation_id=ANY(CAST(:names AS TEXT[])) AND NOT m.unseen
  AND m.conversation_id=r.conversation_id AND m.to_session=r.session AND m.read=0"""
_ROUTES_SEEN = """UPDATE routes SET unseen=false
  WHERE unseen AND conversation_id=ANY(CAST(:names AS TEXT[]))"""
# Locked, as a reader may be taking one of them at this moment.
_FOUND = f"""SELECT m.id, m.conversation_id, r.session, r.shard,
    EXISTS(SELECT 1 FROM deliveries d WHERE d.message_id=m.id),
    coalesce(octet_length(m.message),0)<=:max,
    CASE WHEN r.session IS NOT NULL THEN {DIALECT.question} END, {metadata_column(DIALECT)}
  FROM (SELECT *, sum(size) OVER (ORDER BY id)-size AS before FROM (
      SELECT id, coalesce(octet_length(message),0) AS size FROM messages
      WHERE unseen AND read=0
        AND (conversation_id=ANY(CAST(:names AS TEXT[])) OR conversation_id IS NULL)
      ORDER BY id LIMIT {BATCH}) u) sized
  JOIN messages m ON m.id=sized.id
  LEFT JOIN routes r ON r.conversation_id=m.conversation_id AND r.session=m.to_session
  WHERE sized.before<{LARGEST} AND m.unseen AND m.read=0 ORDER BY m.id FOR NO KEY UPDATE OF m"""
_SEEN = "UPDATE messages SET unseen=false, read=? WHERE id=?"
_BUSY_LANES = """SELECT DISTINCT lane FROM deliveries WHERE lane=ANY(CAST(:lanes AS TEXT[]))
  AND state IN ('queued','ready','leased')"""
_INSERT = """INSERT INTO deliveries(message_id,conversation_id,to_session,shard,lane,enrolled_at,
  changed_at,state,owner,lease_until,attempts,fence) VALUES(:message_id,:conversation,:session,
  :shard,:lane,:now,:now,:state,:owner,:until,:attempts,:attempts)"""


class PendingWork(NamedTuple):
    """What there is to do."""

    unseen: bool  # a message that nobody has looked at, or of a session that was not served
    ready: bool  # something is due for one of the shards asked for


class PostgresEnrolment:
    """Finds what is new; used within the transaction that claims."""

    def __init__(self, db: PostgresDatabase, limits: BridgeLimits) -> None:
        self._db = db
        self._max_message = limits.max_message
        self._routes = Routes(db)

    def find_work(self, shards: Sequence[str]) -> PendingWork:
        """Return what there is to enrol, and to claim for these shards; by one SELECT."""
        [row] = self._db.rows(_WORK, {"shards": list(shards)})
        return PendingWork(*row)

    def enrol(self, lease: Lease) -> list[Delivery]:
        """Take new messages from all other readers, and lease at once what is first in its lane.

        What has been ready before goes first: a shard that has room left has nothing else that is
        due. A conversation that another transaction has locked is left for the next time.
        """
        names = self._lock_unseen()
        if names is None:
            return []
        values = {"names": names, "max": self._max_message}
        with self._db.together():
            self._db.many(_MARK_AGAIN, [values])
            self._db.many(_ROUTES_SEEN, [values])
        seen: list[tuple[int, int]] = []
        new: list[tuple[Enrollable, str]] = []
        for message_id, conversation, session, shard, known, small, text, metadata in self._db.each(
            _FOUND, values
        ):
            envelope = read_envelope(metadata)
            if session is None or not is_answerable(text or "", envelope):
                seen.append((0, message_id))
                continue
            seen.append((1, message_id))
            if not known:
                place = (message_id, conversation, session, shard)
                found = Enrollable(*place, text or "" if small else None, metadata)
                new.append((found, found.lane(envelope)))
        leased = self._place(new, lease)
        self._db.many(_SEEN, seen)
        return leased

    def admit(
        self, checked: Sequence[CheckedArrival], lease: Lease, *, in_turn: bool
    ) -> tuple[list[int], list[Delivery]]:
        """Store questions that arrive with their deliveries; return their numbers and the leased.

        One waits unread, to be enrolled later, where no shard serves the session, or where what
        came before it in its conversation has not been looked at yet; never if `in_turn`.
        """
        sessions = {(each.arrival.conversation, each.recipient) for each in checked}
        names = {conversation for conversation, _ in sessions}
        waiting = set() if in_turn else self._with_unseen(names)
        shards = {
            one: None if one[0] in waiting else self._routes.shard_of(*one) for one in sessions
        }
        numbers, new = insert_arrivals(self._db, checked, shards)
        return numbers, self._place(new, lease)

    def _lock_unseen(self) -> list[str] | None:
        """Return the conversations of what is new, locked, but for those that others have locked.

        None when there is nothing new.
        One that a program has deleted cannot be locked; the index of heads keeps its order.
        """
        rows = self._db.rows(_UNSEEN)
        if not rows:
            return None
        names = [name for (name,) in rows if name is not None]
        locked = {name for (name,) in self._db.rows(_LOCK, {"names": names})}
        if len(locked) < len(names):
            there = {name for (name,) in self._db.rows(_EXIST, {"names": names})}
            locked |= {name for name in names if name not in there}
        return sorted(locked)

    def _with_unseen(self, names: Collection[str]) -> set[str]:
        """Return the conversations in which something has not been looked at yet."""
        rows = self._db.rows(
            "SELECT DISTINCT conversation_id FROM messages WHERE unseen AND read=0"
            " AND conversation_id=ANY(CAST(:names AS TEXT[]))"
            " UNION SELECT conversation_id FROM routes WHERE unseen"
            " AND conversation_id=ANY(CAST(:names AS TEXT[]))",
            {"names": list(names)},
        )
        return {name for (name,) in rows}

    def _place(self, new: Sequence[tuple[Enrollable, str]], lease: Lease) -> list[Delivery]:
        """Write the deliveries of messages; return those that are leased at once."""
        lanes = {lane for _, lane in new if "/" in lane}
        rows = self._db.rows(_BUSY_LANES, {"lanes": list(lanes)}) if lanes else []
        busy = {lane for (lane,) in rows}
        placement = Placement(lease, lambda lane: lane not in busy)
        for found, lane in new:
            placement.add(found, lane)
        self._db.many(_INSERT, [row._asdict() for row in placement.rows])
        return placement.leased
