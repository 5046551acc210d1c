"""How unread messages become deliveries.

Everybody, autopoll's own senders included, only inserts a message with read=0. Whoever sets read=1
has taken it: a legacy reader, an inbox, or the enrolment here, each in its own transaction.
"""
# ruff: noqa: S608 - what is put into a statement are constants of this package, never values

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from autopoll.bridge.records import Delivery
from autopoll.bridge.sqlite.rows import Tables, readable
from autopoll.message import is_answerable, read_envelope

BATCH = 1000  # messages enrolled in one transaction, so that it stays at some 10 ms
SWEEP_MS = 60_000
CLOCK_SLACK_MS = 2_000  # a row written further in the future than this: the clock was set back
METADATA_LIMIT = 64 << 10  # bytes; more than that is no envelope of ours
_LOOKABLE = (
    64 << 20
)  # bytes of a message over the limit whose type and query_id are still looked up

# As bytes, because foreign text need not be UTF-8. In place of a text over the limit comes what is
# needed to answer it in its form: its JSON's type and query_id, or its first bytes.
TEXT = f"""CASE WHEN m.message IS NULL THEN x'' WHEN octet_length(m.message)<=:max
    THEN CAST(m.message AS BLOB)
  WHEN octet_length(m.message)<={_LOOKABLE} AND json_valid(CAST(m.message AS TEXT))
    AND json_type(CAST(m.message AS TEXT))='object'
    THEN CAST(json_object('type',CAST(m.message AS TEXT)->>'$.type',
      'query_id',CAST(m.message AS TEXT)->'$.query_id') AS BLOB)
  ELSE substr(CAST(m.message AS BLOB),1,64) END"""
METADATA = f"CASE WHEN octet_length(m.metadata)<={METADATA_LIMIT} THEN CAST(m.metadata AS BLOB) END"

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
  coalesce(octet_length(m.message),0)<=:max, {TEXT}, {METADATA}"""

# At the head of a lane that more than one may be in; in the words of the index d_head.
HEAD = "state IN ('ready','leased') AND instr(lane,'/')>0"
# Due again; also when the clock was set back, as nobody knows then how long to wait.
DUE = f"(d.not_before<=:now OR d.changed_at>:now+{CLOCK_SLACK_MS})"


class Sight(NamedTuple):
    """What a look has seen."""

    newest: int  # number of the newest message
    route: int  # number of the newest route
    fresh: bool  # something unread, not looked at yet, lies in a served session
    ready: bool  # something is due for one of the shards asked for


class Claim(NamedTuple):
    """For whom something is leased, and until when."""

    owner: str
    now: int
    until: int


class _Found(NamedTuple):
    """An unread message in a served session; `known` was delivered before, and set back."""

    message_id: int
    conversation: str
    session: str
    shard: str
    known: bool
    small: bool
    text: bytes
    metadata: bytes | None


class Enrolment(Tables):
    """Finds new messages by their number: writers are serialized, so numbers commit in order.

    Some come without a new number: a message set back to unread, one inserted under a number of the
    writer's choice, and all that were sent before their session was served. Hence a sweep over
    everything unread at the start, after each new route and once a minute.
    """

    _beyond = 0  # messages up to this id have been looked at
    _sweeping = True
    _swept_at = 0
    _route = 0  # number of the newest route seen

    def _look(self, shards: Sequence[str], now: int) -> Sight:
        """See whether there is work, in one SELECT."""
        if not 0 <= now - self._swept_at < SWEEP_MS:
            self._sweep(now)
        sight = self._see(shards, now)
        if sight.route > self._route:
            self._route = sight.route
            self._sweep(now)
            sight = self._see(shards, now)
        return sight

    def _sweep(self, now: int) -> None:
        self._beyond, self._sweeping, self._swept_at = 0, True, now

    def _see(self, shards: Sequence[str], now: int) -> Sight:
        named = {f"shard{number}": shard for number, shard in enumerate(shards)}
        rows = self._rows(
            "SELECT coalesce((SELECT max(id) FROM messages),0),"
            " coalesce((SELECT max(id) FROM routes),0),"
            f" EXISTS(SELECT 1 {self._unread}), EXISTS(SELECT 1 FROM deliveries d"
            f" WHERE d.state='ready' AND d.shard IN ({','.join(f':{name}' for name in named)})"
            f" AND {DUE})",
            {**named, "beyond": self._beyond, "now": now},
        )
        return Sight(*rows[0])

    @property
    def _unread(self) -> str:
        return _SWEPT if self._sweeping else _NEW

    def _looked(self, beyond: int, newest: int) -> None:
        """Do not look at these again; called when what was found has been committed."""
        self._beyond = beyond
        self._sweeping = self._sweeping and beyond < newest

    def _enrol(self, newest: int, room: dict[str, int], claim: Claim) -> tuple[list[Delivery], int]:
        """Take new messages from all other readers, and lease at once what is first in its lane.

        Returns what was leased and the id up to which was looked. What has been ready before goes
        first: a shard that has `room` left has nothing else that is due.
        """
        read, rows, leased, busy = [], [], [], set[str]()
        count, last = 0, newest
        for found in self._find():
            count, last = count + 1, found.message_id
            text, metadata = readable(found.text) or "", readable(found.metadata)
            envelope = read_envelope(metadata)
            if not is_answerable(text, envelope):
                continue
            read.append((found.message_id,))
            if found.known:
                continue
            lane = f"m{found.message_id}"
            if envelope.lane != "own":
                lane = f"{found.conversation}/{found.session}"
            held: tuple[Any, ...] = ("ready", None, None, 0)
            if lane in busy or not self._is_free(lane):
                held = ("queued", None, None, 0)
            elif room.get(found.shard, 0) > 0:
                held = ("leased", claim.owner, claim.until, 1)
                room[found.shard] -= 1
                leased.append(
                    Delivery(
                        message_id=found.message_id,
                        conversation=found.conversation,
                        session=found.session,
                        shard=found.shard,
                        lane=lane,
                        text=text if found.small else None,
                        metadata=metadata,
                        fence=1,
                        attempt=1,
                        enrolled_at=claim.now,
                    )
                )
            busy.add(lane)
            place = (found.message_id, found.conversation, found.session, found.shard, lane)
            rows.append((*place, envelope.waiter, claim.now, *held))
        self._many("UPDATE messages SET read=1 WHERE id=?", read)
        self._many(
            "INSERT INTO deliveries(message_id,conversation_id,to_session,shard,lane,waiter,"
            "enrolled_at,changed_at,state,owner,lease_until,attempts,fence)"
            " VALUES(?1,?2,?3,?4,?5,?6,?7,?7,?8,?9,?10,?11,?11)",
            rows,
        )
        return leased, last if count == BATCH else max(newest, last)

    def _find(self) -> Iterator[_Found]:
        """Yield what is unread, oldest first; one by one, because each may be of megabytes."""
        with self._explained():
            yield from map(
                _Found._make,
                self._db.execute(
                    f"{_FOUND} {self._unread} ORDER BY m.id LIMIT {BATCH}",
                    {"beyond": self._beyond, "max": self.limits.max_message},
                ),
            )

    def _is_free(self, lane: str) -> bool:
        """Tell whether nothing waits or is at work in a lane."""
        if not _is_shared(lane):
            return True
        rows = self._rows(
            f"SELECT 1 WHERE EXISTS(SELECT 1 FROM deliveries WHERE lane=:lane AND {HEAD})"
            " OR EXISTS(SELECT 1 FROM deliveries WHERE lane=:lane AND state='queued')",
            {"lane": lane},
        )
        return not rows

    def _promote(self, lane: str, now: int) -> None:
        """Make the oldest queued delivery of a lane ready if the lane has no head."""
        if not _is_shared(lane):
            return
        self._rows(
            "UPDATE deliveries SET state='ready', changed_at=:now WHERE message_id=(SELECT"
            " min(message_id) FROM deliveries WHERE lane=:lane AND state='queued') AND NOT EXISTS"
            f"(SELECT 1 FROM deliveries WHERE lane=:lane AND {HEAD})",
            {"lane": lane, "now": now},
        )


def _is_shared(lane: str) -> bool:
    """Tell a conversation's lane, by its slash, from that of an independent question."""
    return "/" in lane
