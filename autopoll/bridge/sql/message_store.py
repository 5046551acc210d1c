"""Messages: stored, received, listed, and how far a query has come."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from autopoll.bridge.records import Arrival, BridgeLimits, Message, QueryState, Stored
from autopoll.bridge.sql.arrivals import Arrivals, CheckedArrival
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.query_states import query_state, query_states
from autopoll.bridge.sql.refused_rows import together_or_each
from autopoll.bridge.sql.rows import (
    insert_messages,
    message_columns,
    message_of,
    require_conversation,
)
from autopoll.errors import NotFound

PAGE = 16 << 20  # bytes of text after which a list ends, however many were asked for

# The lane of an independent question has no slash; its answer is fetched by the question's id.
_WAITING = """(EXISTS(SELECT 1 FROM deliveries d WHERE d.message_id=m.id
    AND d.state IN ('queued','ready','leased'))
  OR m.read=? AND NOT EXISTS(SELECT 1 FROM answers a JOIN deliveries d ON d.message_id=a.query_id
    WHERE a.query_id={} AND a.answer_id=m.id AND d.lane NOT LIKE '%/%'))"""


class SqlMessages:
    """The MessageStore."""

    def __init__(self, db: Database, limits: BridgeLimits) -> None:
        self._db = db
        self._arrivals = Arrivals(db, limits)
        words = db.dialect
        kinds = (
            words.json_text.format(f"m.{column}", "type") for column in ("message", "metadata")
        )
        self._columns = message_columns(words)
        self._kind = f"coalesce({', '.join(kinds)}, 'text')"
        self._waiting = _WAITING.format(words.json_integer.format("m.metadata", "in_reply_to"))

    def store(self, arrivals: Sequence[Arrival]) -> list[Stored]:
        checked = self._arrivals.check(arrivals)

        def commit(together: bool) -> list[Stored]:
            store = self._arrivals.store if together else self._arrivals.store_one_by_one
            with self._db.writing():
                return store(checked, self._insert)

        return together_or_each(commit)

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
        before: int | None = None,
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
            terms.append((self._waiting, 0))
        if kind is not None:
            terms.append((f"{self._kind}=?", kind))
        if before is not None:
            terms.append(("m.id<?", before))
        if after:
            terms.append(("m.id<=?", self._db.decided("messages")))
        where = " AND ".join(term for term, _ in terms)
        return self._select(where, [value for _, value in terms], limit, newest=not after)

    def newest(self) -> int:
        rows = self._db.rows(
            "SELECT id FROM messages WHERE id<=? ORDER BY id DESC LIMIT 1",
            (self._db.decided("messages"),),
        )
        return rows[0][0] if rows else -1

    def message(self, message_id: int) -> Message:
        found = self._select("m.id=?", (message_id,), 1)
        if not found:
            raise _unknown_message(message_id)
        return found[0]

    def query_state(self, message_id: int) -> QueryState:
        found = query_state(self._db, message_id)
        if found is None:
            raise _unknown_message(message_id)
        return found

    def query_states(self, message_ids: Sequence[int]) -> list[QueryState]:
        return query_states(self._db, message_ids)

    def _select(
        self, where: str, values: Sequence[Any], limit: int, *, newest: bool = False
    ) -> list[Message]:
        order = "DESC" if newest else "ASC"
        sql = f"SELECT {self._columns} FROM messages m WHERE {where} ORDER BY m.id {order} LIMIT ?"
        rows: list[tuple[Any, ...]] = []
        size = 0
        with closing(self._db.each(sql, (*values, limit))) as found:
            for row in found:
                rows.append(row)
                size += len(row[4] or b"") + len(row[5] or b"")
                if size >= PAGE:
                    break
        return [message_of(row) for row in (reversed(rows) if newest else rows)]

    def _insert(self, checked: Sequence[CheckedArrival]) -> list[int]:
        return insert_messages(self._db, [each.message() for each in checked])

    def _mark_read(self, message_id: int) -> bool:
        """Mark a message read; return whether it was still unread, so that one reader gets it."""
        return bool(
            self._db.rows(
                "UPDATE messages SET read=1 WHERE id=? AND read=0 RETURNING id", (message_id,)
            )
        )


def _unknown_message(message_id: int) -> NotFound:
    return NotFound(f"there is no message {message_id}", "List them with: autopoll messages")
