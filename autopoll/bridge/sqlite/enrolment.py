"""How unread messages become deliveries.

Everybody, autopoll's own senders included, only inserts a message with read=0. Whoever sets read=1
has taken it: a legacy reader, an inbox, or the enrolment here, each in its own transaction.
"""
# ruff: noqa: S608 - what is put into a statement are constants of this package, never values

from typing import Any, NamedTuple

from autopoll.bridge.sqlite.tables import Tables, readable
from autopoll.message import is_answerable, read_envelope

BATCH = 1000  # messages enrolled in one transaction, so that it stays at some 10 ms
SWEEP_MS = 60_000
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
_NEW = """SELECT m.id, r.conversation_id, r.session FROM messages m NOT INDEXED
  CROSS JOIN routes r ON r.conversation_id=m.conversation_id AND r.session=m.to_session
  WHERE m.id>? AND m.read=0 ORDER BY m.id LIMIT ?"""
_SWEPT = """SELECT m.id, r.conversation_id, r.session FROM routes r
  CROSS JOIN messages m INDEXED BY m_unread ON m.conversation_id=r.conversation_id
  AND m.to_session=r.session WHERE m.id>? AND m.read=0 ORDER BY m.id LIMIT ?"""


class Found(NamedTuple):
    """An unread message that wants an answer."""

    message_id: int
    lane: str
    waiter: str | None


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

    def _look(self, newest: int, route: int, now: int) -> tuple[list[Found], int]:
        """Return what is to be enrolled, oldest first, and the id up to which was looked."""
        if route > self._route or not 0 <= now - self._swept_at < SWEEP_MS:
            self._beyond, self._sweeping = 0, True
            self._route, self._swept_at = route, now
        if newest <= self._beyond:
            return [], newest
        rows = self._rows(_SWEPT if self._sweeping else _NEW, (self._beyond, BATCH))
        found = [item for row in rows if (item := self._read(*row)) is not None]
        return found, rows[-1][0] if len(rows) == BATCH else newest

    def _looked(self, beyond: int, newest: int) -> None:
        """Do not look at these again; called when what was found has been committed."""
        self._beyond = beyond
        self._sweeping = self._sweeping and beyond < newest

    def _read(self, message_id: int, conversation: str, session: str) -> Found | None:
        rows = self._rows(
            f"SELECT {TEXT}, {METADATA} FROM messages m WHERE m.id=:id",
            {"id": message_id, "max": self.limits.max_message},
        )
        if not rows:
            return None
        text, metadata = readable(rows[0][0]) or "", readable(rows[0][1])
        if not is_answerable(text, metadata):
            return None
        envelope = read_envelope(metadata)
        return Found(
            message_id,
            f"m{message_id}" if envelope.lane == "own" else f"{conversation}/{session}",
            envelope.waiter,
        )

    def _enrol(self, found: Found, now: int) -> None:
        """Take a message from all other readers, unless one of them was quicker."""
        values: dict[str, Any] = {**found._asdict(), "now": now}
        # A message that was set back to unread is delivered already; it is taken but not repeated.
        taken = self._rows(
            "UPDATE messages SET read=1 WHERE id=:message_id AND read=0 AND EXISTS(SELECT 1 FROM"
            " routes r WHERE r.conversation_id=messages.conversation_id"
            " AND r.session=messages.to_session) RETURNING id",
            values,
        )
        if taken:
            self._rows(
                "INSERT INTO deliveries(message_id,conversation_id,to_session,shard,lane,waiter,"
                "enrolled_at,changed_at,state) SELECT m.id,r.conversation_id,r.session,r.shard,"
                ":lane,:waiter,:now,:now,CASE WHEN"
                " EXISTS(SELECT 1 FROM deliveries WHERE lane=:lane AND state IN ('ready','leased'))"
                " OR EXISTS(SELECT 1 FROM deliveries WHERE lane=:lane AND state='queued')"
                " THEN 'queued' ELSE 'ready' END FROM messages m JOIN routes r"
                " ON r.conversation_id=m.conversation_id AND r.session=m.to_session"
                " WHERE m.id=:message_id ON CONFLICT DO NOTHING",
                values,
            )

    def _promote(self, lane: str, now: int) -> None:
        """Make the oldest queued delivery of a lane ready if the lane has no head."""
        self._rows(
            "UPDATE deliveries SET state='ready', changed_at=:now WHERE message_id=(SELECT"
            " min(message_id) FROM deliveries WHERE lane=:lane AND state='queued') AND NOT EXISTS"
            "(SELECT 1 FROM deliveries WHERE lane=:lane AND state IN ('ready','leased'))",
            {"lane": lane, "now": now},
        )
