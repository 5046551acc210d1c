"""How unread messages become deliveries.

Everybody, autopoll's own senders included, only inserts a message with read=0. What sets read=1 has
taken it: a legacy reader, a receiver, or the enrolment here, each in its own transaction.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from autopoll.bridge.records import BridgeLimits, Delivery
from autopoll.bridge.sql.arrivals import CheckedArrival
from autopoll.bridge.sql.lanes import DUE, Lanes
from autopoll.bridge.sql.placement import Enrollable, Lease, Placement, insert_arrivals
from autopoll.bridge.sql.routes import Routes
from autopoll.bridge.sql.rows import metadata_column, readable
from autopoll.bridge.sqlite.connection import DIALECT, SqliteDatabase
from autopoll.message import is_answerable, read_envelope

BATCH = 1000  # messages enrolled in one transaction, so that it stays at some 10 ms
SWEEP_MS = 60_000

# Two plans for one question. New messages are few and lie at the end of the table; a sweep starts
# from the routes, because among all unread messages most may be for people.
_NEW = """FROM messages m NOT INDEXED
  CROSS JOIN routes r ON r.conversation_id=m.conversation_id AND r.session=m.to_session
  WHERE m.id>:beyond AND m.read=0"""
_SWEPT = """FROM routes r
  CROSS JOIN messages m INDEXED BY m_unread ON m.conversation_id=r.conversation_id
  AND m.to_session=r.session WHERE m.id>:beyond AND m.read=0"""
_FOUND = f"""SELECT m.id, r.conversation_id, r.session, r.shard,
  EXISTS(SELECT 1 FROM deliveries d WHERE d.message_id=m.id),
  coalesce(octet_length(m.message),0)<=:max, {DIALECT.question}, {metadata_column(DIALECT)}"""
_INSERT = """INSERT INTO deliveries(message_id,conversation_id,to_session,shard,lane,
  enrolled_at,changed_at,state,owner,lease_until,attempts,fence)
  VALUES(?1,?2,?3,?4,?5,?6,?6,?7,?8,?9,?10,?10)"""


class Work(NamedTuple):
    """What there is to do."""

    newest: int  # number of the newest message
    route: int  # number of the newest route
    unread: bool  # something unread, not looked at yet, lies in a served session
    ready: bool  # something is due for one of the shards asked for


class SqliteEnrolment:
    """Finds new messages by their number: writers are serialized, so numbers commit in order.

    Some come without a new number: a message set back to unread, one inserted under a number of the
    writer's choice, and all that were sent before their session was served. Hence a sweep over
    everything unread at the start, after each new route and once a minute.
    """

    def __init__(self, db: SqliteDatabase, limits: BridgeLimits, lanes: Lanes) -> None:
        self._db = db
        self._max_message = limits.max_message
        self._lanes = lanes
        self._routes = Routes(db)
        self._beyond = 0  # messages up to this id have been looked at
        self._sweeping = True
        self._swept_at = 0
        self._route = 0  # number of the newest route seen

    def find_work(self, shards: Sequence[str], now: int) -> Work:
        """Return what there is to enrol, and to claim for these shards.

        By one SELECT, and a second one after a new route.
        """
        if not 0 <= now - self._swept_at < SWEEP_MS:
            self._sweep(now)
        work = self._work(shards, now)
        if work.route > self._route:
            self._route = work.route
            self._sweep(now)
            work = self._work(shards, now)
        return work

    def advance(self, beyond: int, newest: int) -> None:
        """Do not look at these messages again; called when what was found has been committed."""
        self._beyond = beyond
        self._sweeping = self._sweeping and beyond < newest

    def enrol(self, newest: int, lease: Lease) -> tuple[list[Delivery], int]:
        """Take new messages from all other readers, and lease at once what is first in its lane.

        Returns what was leased and the id up to which was looked. What has been ready before goes
        first: a shard that has room left has nothing else that is due.
        """
        read: list[tuple[int]] = []
        placement = Placement(lease, self._lanes.is_free)
        count, last = 0, newest
        for message_id, *place, known, small, data, facts in self._unread():
            count, last = count + 1, message_id
            text, metadata = readable(data) or "", readable(facts)
            envelope = read_envelope(metadata)
            if not is_answerable(text, envelope):
                continue
            read.append((message_id,))
            if known:
                continue
            found = Enrollable._make((message_id, *place, text if small else None, metadata))
            placement.add(found, found.lane(envelope))
        self._db.many("UPDATE messages SET read=1 WHERE id=?", read)
        self._db.many(_INSERT, placement.rows)
        return placement.leased, last if count == BATCH else max(newest, last)

    def admit(
        self, checked: Sequence[CheckedArrival], lease: Lease, *, in_turn: bool
    ) -> tuple[list[int], list[Delivery]]:
        """Store questions that arrive with their deliveries; return their numbers and the leased.

        One waits unread, to be enrolled later, where no shard serves the session, or where it is
        not `in_turn`: something that came before is not enrolled yet, perhaps of its own lane.
        """
        sessions = {(each.arrival.conversation, each.recipient) for each in checked}
        shards = {one: self._routes.shard_of(*one) if in_turn else None for one in sessions}
        numbers, new = insert_arrivals(self._db, checked, shards)
        placement = Placement(lease, self._lanes.is_free)
        for found, lane in new:
            placement.add(found, lane)
        self._db.many(_INSERT, placement.rows)
        return numbers, placement.leased

    def _sweep(self, now: int) -> None:
        self._beyond, self._sweeping, self._swept_at = 0, True, now

    def _work(self, shards: Sequence[str], now: int) -> Work:
        named = {f"shard{number}": shard for number, shard in enumerate(shards)}
        rows = self._db.rows(
            "SELECT coalesce((SELECT max(id) FROM messages),0),"
            " coalesce((SELECT max(id) FROM routes),0),"
            f" EXISTS(SELECT 1 {self._from_unread}), EXISTS(SELECT 1 FROM deliveries d"
            f" WHERE d.state='ready' AND d.shard IN ({','.join(f':{name}' for name in named)})"
            f" AND {DUE})",
            {**named, "beyond": self._beyond, "now": now},
        )
        return Work(*rows[0])

    def _unread(self) -> Iterator[tuple[Any, ...]]:
        """Return what is unread, oldest first; each may be of megabytes."""
        return self._db.each(
            f"{_FOUND} {self._from_unread} ORDER BY m.id LIMIT {BATCH}",
            {"beyond": self._beyond, "max": self._max_message},
        )

    @property
    def _from_unread(self) -> str:
        return _SWEPT if self._sweeping else _NEW
