"""Messages: sent, taken, listed, and how far a question has come."""
# ruff: noqa: S608 - what is put into a statement are constants of this package, never values

import json
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from autopoll.bridge.records import Message, QueryState
from autopoll.bridge.sqlite.rate_limit import Budget
from autopoll.bridge.sqlite.rows import other_session, readable
from autopoll.errors import NotFound, UsageError
from autopoll.redact.redact import redact_message
from autopoll.text import storable

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
# The lane of an independent question has no slash; whoever asked it fetches its answer by its id.
_WAITING = f"""(EXISTS(SELECT 1 FROM deliveries d WHERE d.message_id=m.id
    AND d.state IN ('queued','ready','leased'))
  OR m.read=? AND NOT EXISTS(SELECT 1 FROM answers a JOIN deliveries d ON d.message_id=a.query_id
    WHERE a.query_id={_IN_REPLY_TO} AND a.answer_id=m.id AND instr(d.lane,'/')=0))"""

_STATE = f"""q.id, CAST(q.conversation_id AS BLOB), CAST(q.to_session AS BLOB), d.state, d.shard,
  d.attempts, d.last_error, d.enrolled_at, d.settled_at, {_COLUMNS}
  FROM messages q LEFT JOIN deliveries d ON d.message_id=q.id
  LEFT JOIN answers a ON a.query_id=q.id LEFT JOIN messages m ON m.id=a.answer_id"""


class Mail(Budget):
    """What both sides may do with messages."""

    def send(
        self, conversation: str, session: str, texts: Sequence[str], metadata: Sequence[str | None]
    ) -> list[int]:
        """Store messages from a session to its partner in one commit and return their ids.

        Raises NotFound, RateLimited, UsageError (too large, too many, or metadata that is not a
        JSON object).
        """
        checked = {data: self._checked_metadata(data) for data in set(metadata)}
        pairs = zip(texts, metadata, strict=True)
        rows = [(self._checked(text), checked[data]) for text, data in pairs]
        partner = other_session(session)
        with self._writing():
            self._spend(conversation, session, len(rows))
            return [self._insert(conversation, session, partner, *row) for row in rows]

    def receive(self, conversation: str, session: str, limit: int = 100) -> list[Message]:
        """Take the unread messages of a session, marking them read, as a legacy reader does."""
        self._require(conversation)
        unread = self._listed(
            "m.conversation_id=? AND m.to_session=? AND m.read=0", (conversation, session), limit
        )
        if not unread:
            return []  # without a write lock, because askers poll
        with self._writing():
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
        """Return messages without consuming them: the newest `limit`, oldest first; with `after`,
        the first `limit` beyond that id. `session` is the recipient, `kind` the type.
        """
        terms: list[tuple[str, Any]] = [("m.id>?", after)]
        if conversation is not None:
            self._require(conversation)
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
        return self._listed(where, [value for _, value in terms], limit, newest=not after)

    def query_state(self, message_id: int) -> QueryState:
        """Return the state of one query; raise NotFound."""
        rows = self._rows(f"SELECT {_STATE} WHERE q.id=?", (message_id,))
        if not rows:
            raise NotFound(f"there is no message {message_id}", "List them with: autopoll messages")
        return _state(rows[0])

    def query_states(self, message_ids: Sequence[int]) -> list[QueryState]:
        """Return the states of many queries in one look, leaving out those there are none of."""
        rows = self._rows(
            f"SELECT {_STATE} WHERE q.id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(message_ids)),),
        )
        return [_state(row) for row in rows]

    def _listed(
        self, where: str, values: Sequence[Any], limit: int, *, newest: bool = False
    ) -> list[Message]:
        order = "DESC" if newest else "ASC"
        sql = f"SELECT {_COLUMNS} FROM messages m WHERE {where} ORDER BY m.id {order} LIMIT ?"
        rows: list[tuple[Any, ...]] = []
        size = 0
        with self._explained(), closing(self._db.execute(sql, (*values, limit))) as found:
            for row in found:  # one by one, because all at once need not fit into memory
                rows.append(row)
                size += len(row[4] or b"") + len(row[5] or b"")
                if size >= PAGE:
                    break
        return [_message(row) for row in (reversed(rows) if newest else rows)]

    def _checked(self, text: str) -> str:
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > self.limits.max_message:
            raise UsageError(
                f"the message is too large: {size} bytes, the limit is {self.limits.max_message}",
                "Send a shorter text, or name a context_file.",
            )
        return storable(redact_message(text) if self.limits.redact else text)

    def _checked_metadata(self, metadata: str | None) -> str | None:
        if metadata is None:
            return None
        try:
            fields = json.loads(metadata)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise UsageError("the metadata is not a JSON object", 'Send it as {"key": "value"}.')
        return self._checked(metadata)


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
