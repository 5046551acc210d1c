"""Messages: sent, received, listed, and how far a query has come."""

import json
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from autopoll.bridge.records import Arrival, BridgeLimits, Message, QueryState, Stored
from autopoll.bridge.sqlite.arrivals import Arrivals, CheckedArrival
from autopoll.bridge.sqlite.connection import Database
from autopoll.bridge.sqlite.driver_errors import OF_ONE_ROW, log_error
from autopoll.bridge.sqlite.message_checks import MessageChecks
from autopoll.bridge.sqlite.rate_limit import RateLimiter
from autopoll.bridge.sqlite.rows import (
    NewMessage,
    insert_messages,
    other_session,
    readable,
    require_conversation,
)
from autopoll.errors import NotFound

PAGE = 16 << 20  # bytes of text after which a list ends, however many were asked for

# Foreign programs may have stored anything. As bytes it can be read; as text it need not be UTF-8,
# which SQLite does not check and the driver refuses.
_COLUMNS = """m.id, CAST(m.conversation_id AS BLOB), CAST(m.from_session AS BLOB),
  CAST(m.to_session AS BLOB), CAST(m.message AS BLOB), CAST(m.metadata AS BLOB),
  CAST(m.timestamp AS BLOB), m.read IS NOT 0"""
_KIND = """coalesce(
  CASE WHEN json_valid(CAST(m.message AS TEXT)) THEN CAST(m.message AS TEXT)->>'$.type' END,
  CASE WHEN json_valid(CAST(m.metadata AS TEXT)) THEN CAST(m.metadata AS TEXT)->>'$.type' END,
  'text')"""

_IN_REPLY_TO = """CASE WHEN json_valid(CAST(m.metadata AS TEXT))
  THEN CAST(m.metadata AS TEXT)->>'$.in_reply_to' END"""
# The lane of an independent question has no slash; its answer is fetched by the question's id.
_WAITING = f"""(EXISTS(SELECT 1 FROM deliveries d WHERE d.message_id=m.id
    AND d.state IN ('queued','ready','leased'))
  OR m.read=? AND NOT EXISTS(SELECT 1 FROM answers a JOIN deliveries d ON d.message_id=a.query_id
    WHERE a.query_id={_IN_REPLY_TO} AND a.answer_id=m.id AND instr(d.lane,'/')=0))"""

_STATE = f"""q.id, CAST(q.conversation_id AS BLOB), CAST(q.to_session AS BLOB), d.state, d.shard,
  d.attempts, d.last_error, d.enrolled_at, d.settled_at, {_COLUMNS}
  FROM messages q LEFT JOIN deliveries d ON d.message_id=q.id
  LEFT JOIN answers a ON a.query_id=q.id LEFT JOIN messages m ON m.id=a.answer_id"""


class SqliteMessages:
    """The MessageStore."""

    def __init__(self, db: Database, limits: BridgeLimits) -> None:
        self._db = db
        self._checks = MessageChecks(limits)
        self._rate = RateLimiter(db, limits)
        self._arrivals = Arrivals(db, limits)

    def send(
        self, conversation: str, session: str, texts: Sequence[str], metadata: Sequence[str | None]
    ) -> list[int]:
        checked = {data: self._checks.metadata(data) for data in set(metadata)}
        pairs = zip(texts, metadata, strict=True)
        partner = other_session(session)
        new = [
            NewMessage(conversation, session, partner, self._checks.text(text), checked[data])
            for text, data in pairs
        ]
        with self._db.writing():
            self._rate.spend(conversation, session, len(new))
            return list(insert_messages(self._db, new))

    def store(self, arrivals: Sequence[Arrival]) -> list[Stored]:
        checked = self._arrivals.check(arrivals)
        try:
            with self._db.writing():
                return self._arrivals.store(checked, self._insert)
        except OF_ONE_ROW as error:
            log_error(f"storing one by one: {error}")
            with self._db.writing():
                return self._arrivals.store_one_by_one(checked, self._insert)

    def receive(self, conversation: str, session: str, limit: int = 100) -> list[Message]:
        require_conversation(self._db, conversation)
        unread = self._select(
            "m.conversation_id=? AND m.to_session=? AND m.read=0", (conversation, session), limit
        )
        if not unread:
            return []  # without a write lock, because askers poll
        with self._db.writing():
            return [message for message in unread if self._mark_read(message.id)]

    def find(
        self,
        *,
        conversation: str | None = None,
        session: str | None = None,
        unread: bool = False,
        waiting: bool = False,
        kind: str | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[Message]:
        terms: list[tuple[str, Any]] = [("m.id>?", after)]
        if conversation is not None:
            require_conversation(self._db, conversation)
            terms.append(("m.conversation_id=?", conversation))
        if session is not None:
            terms.append(("m.to_session=?", session))
        if unread:
            terms.append(("m.read=?", 0))
        if waiting:
            terms.append((_WAITING, 0))
        if kind is not None:
            terms.append((f"{_KIND}=?", kind))
        where = " AND ".join(term for term, _ in terms)
        return self._select(where, [value for _, value in terms], limit, newest=not after)

    def query_state(self, message_id: int) -> QueryState:
        rows = self._db.rows(f"SELECT {_STATE} WHERE q.id=?", (message_id,))
        if not rows:
            raise NotFound(f"there is no message {message_id}", "List them with: autopoll messages")
        return _state(rows[0])

    def query_states(self, message_ids: Sequence[int]) -> list[QueryState]:
        rows = self._db.rows(
            f"SELECT {_STATE} WHERE q.id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(message_ids)),),
        )
        return [_state(row) for row in rows]

    def _select(
        self, where: str, values: Sequence[Any], limit: int, *, newest: bool = False
    ) -> list[Message]:
        order = "DESC" if newest else "ASC"
        sql = f"SELECT {_COLUMNS} FROM messages m WHERE {where} ORDER BY m.id {order} LIMIT ?"
        rows: list[tuple[Any, ...]] = []
        size = 0
        with closing(self._db.each(sql, (*values, limit))) as found:
            for row in found:
                rows.append(row)
                size += len(row[4] or b"") + len(row[5] or b"")
                if size >= PAGE:
                    break
        return [_message(row) for row in (reversed(rows) if newest else rows)]

    def _insert(self, checked: Sequence[CheckedArrival]) -> range:
        return insert_messages(self._db, [each.message() for each in checked])

    def _mark_read(self, message_id: int) -> bool:
        """Mark a message read; return whether it was still unread, so that one reader gets it."""
        return bool(
            self._db.rows(
                "UPDATE messages SET read=1 WHERE id=? AND read=0 RETURNING id", (message_id,)
            )
        )


def _state(row: tuple[Any, ...]) -> QueryState:
    number, conversation, session, state, shard, attempts, error, enrolled, settled, *answer = row
    return QueryState(
        message_id=number,
        conversation=readable(conversation) or "",
        session=readable(session) or "",
        state=state or "sent",
        shard=shard,
        attempts=attempts or 0,
        last_error=error,
        answer=_message(answer) if answer[0] is not None else None,
        enrolled_at=enrolled,
        settled_at=settled,
    )


def _message(row: Sequence[Any]) -> Message:
    number, conversation, sender, recipient, text, metadata, timestamp, read = row
    return Message(
        id=number,
        conversation=readable(conversation) or "",
        sender=readable(sender) or "",
        recipient=readable(recipient) or "",
        text=readable(text) or "",
        metadata=readable(metadata),
        timestamp=readable(timestamp) or "",
        read=bool(read),
    )
