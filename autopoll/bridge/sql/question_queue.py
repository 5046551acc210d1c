"""The questions that have no answer yet, oldest first, a page at a time.

The number of a question tells its age. Each state has an index of its own, so that nothing that was
answered is looked at; only what is queued behind others of its conversation is looked through.
"""

import json
from contextlib import closing
from typing import Any

from autopoll.bridge.queue_records import COUNTED, QueuedQuestion, QueuePage
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.lanes import CANCELLED
from autopoll.bridge.sql.rows import metadata_column, readable, stored
from autopoll.clock import parse_utc_ms
from autopoll.message import is_answerable, read_envelope

_LARGEST = 1 << 20  # bytes of a message that is looked at, to see whether it wants an answer
_ENROLLED = "deliveries d WHERE d.state='{}' AND d.shard=coalesce(:shard,d.shard)"
_SENT = """messages m JOIN routes r ON r.conversation_id=m.conversation_id
  AND r.session=m.to_session WHERE m.read=0 AND r.shard=coalesce(:shard,r.shard)
  AND NOT EXISTS(SELECT 1 FROM deliveries d WHERE d.message_id=m.id)"""
_STATES = {
    state: (_ENROLLED.format(state), "d.message_id") for state in ("leased", "ready", "queued")
}
_PARTS = {**_STATES, "sent": (_SENT, "m.id")}


class Queue:
    """What waits and what is under way, for operators."""

    def __init__(self, db: Database) -> None:
        self._db = db
        place = stored(db.dialect, "m.conversation_id", "m.from_session", "m.timestamp")
        roles = stored(db.dialect, "c.session_a_role", "c.session_b_role")
        self._details = (
            f"SELECT m.id, {place}, {roles}, d.message_id IS NOT NULL, coalesce(d.shard,r.shard),"
            f" d.state, d.enrolled_at, d.attempts, d.last_error, d.not_before>={CANCELLED},"
            f" p.host, p.home, {metadata_column(db.dialect)},"
            f" CASE WHEN d.message_id IS NULL THEN {db.dialect.question} END"
            " FROM messages m LEFT JOIN deliveries d ON d.message_id=m.id"
            " LEFT JOIN routes r ON r.conversation_id=m.conversation_id AND r.session=m.to_session"
            " LEFT JOIN conversations c ON c.id=m.conversation_id"
            " LEFT JOIN pollers p ON p.owner=d.owner"
            f" WHERE m.id IN ({db.dialect.numbers.format(':numbers')}) ORDER BY m.id"
        )

    def page(self, *, shard: str | None, after: int, limit: int) -> QueuePage:
        values = {"shard": shard, "after": after, "limit": limit + 1}
        parts = [
            f"SELECT * FROM (SELECT {number} AS id FROM {rows} AND {number}>:after"
            f" ORDER BY {number} LIMIT :limit) {state}"
            for state, (rows, number) in _PARTS.items()
        ]
        found = sorted({number for (number,) in self._db.rows(" UNION ALL ".join(parts), values)})
        numbers = found[:limit]
        more = len(found) > limit
        return QueuePage(
            questions=self._shown(numbers),
            next=numbers[-1] if more else None,
            counts=self._counts(shard),
        )

    def _counts(self, shard: str | None) -> dict[str, int]:
        counts = " UNION ALL ".join(
            f"SELECT '{state}', count(*) FROM (SELECT 1 FROM {rows} LIMIT {COUNTED}) {state}"
            for state, (rows, _) in _PARTS.items()
        )
        return dict(self._db.rows(counts, {"shard": shard}))

    def _shown(self, numbers: list[int]) -> list[QueuedQuestion]:
        values = {"numbers": json.dumps(numbers), "max": _LARGEST}
        now = self._db.clock()
        with closing(self._db.each(self._details, values)) as rows:
            return [each for row in rows if (each := _question(row, now))]


def _question(row: tuple[Any, ...], now: int) -> QueuedQuestion | None:
    """Return a question; None for a message that wants no answer, or has one by now."""
    (number, conversation, sender, sent, role_a, role_b, enrolled, shard, state, enrolled_at,
     attempts, error, cancelled, host, home, metadata, text) = row  # fmt: skip
    if state in ("done", "dead") or shard is None:
        return None
    if not enrolled and not is_answerable(readable(text) or "", read_envelope(readable(metadata))):
        return None
    session = readable(sender) or ""
    times = [parse_utc_ms(readable(sent)), enrolled_at]
    return QueuedQuestion(
        id=number,
        conversation=readable(conversation) or "",
        asker=session,
        role=readable(role_b if session == "b" else role_a) or "",
        shard=shard,
        state=state or "sent",
        asked_at=min((each for each in times if each is not None), default=now),
        attempt=attempts or 0,
        last_error=None if cancelled else error,
        cancelled=error if cancelled else None,
        host=host,
        home=home,
    )
