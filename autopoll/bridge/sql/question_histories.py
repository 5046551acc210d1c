"""Reads how one question came to its answer; for whoever looks into it, and never on its way."""

from typing import Any

from autopoll.bridge.attempt_record import read_history
from autopoll.bridge.question_history import QuestionHistory
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.rows import readable, stored
from autopoll.clock import parse_utc_ms
from autopoll.errors import NotFound

_MOST_BEFORE = 10


class QuestionHistories:
    """The histories of one store."""

    def __init__(self, db: Database) -> None:
        self._db = db
        words = db.dialect
        texts = stored(words, "q.conversation_id", "q.from_session", "q.to_session", "q.timestamp")
        self._select = (
            f"SELECT {texts}, {words.json_integer.format('q.metadata', 'in_reply_to')},"
            f" {words.json_integer.format('q.metadata', 'retry_of')},"
            " d.state, d.shard, d.lane, d.attempts, d.not_before, d.enrolled_at, d.changed_at,"
            " d.settled_at, d.dismissed_at, d.last_error, d.history, a.answer_id, p.host, p.folder"
            " FROM messages q LEFT JOIN deliveries d ON d.message_id=q.id"
            " LEFT JOIN answers a ON a.query_id=q.id LEFT JOIN pollers p ON p.owner=d.owner"
            " WHERE q.id=?"
        )
        retry_of = words.json_integer.format("metadata", "retry_of")
        self._retry = (
            "SELECT min(id) FROM messages WHERE conversation_id=? AND id>?"
            f" AND {retry_of}=? AND octet_length(metadata)<1000"
        )

    def read(self, message_id: int) -> QuestionHistory:
        rows = self._db.rows(self._select, (message_id,))
        if not rows:
            raise NotFound(f"there is no message {message_id}", "See: autopoll messages")
        (conversation, sender, session, sent_at, reply_to, retry_of, state, *delivery) = rows[0]
        (shard, lane, tries, not_before, enrolled, changed, settled, dismissed, error, history,
         answer_id, host, folder) = delivery  # fmt: skip
        place = readable(conversation) or ""
        return QuestionHistory(
            message_id=message_id,
            conversation=place,
            sender=readable(sender) or "",
            session=readable(session) or "",
            sent_at=parse_utc_ms(readable(sent_at)),
            state=state or "sent",
            shard=shard,
            lane=lane or "",
            tries=tries or 0,
            not_before=not_before or 0,
            enrolled_at=enrolled,
            changed_at=changed,
            settled_at=settled,
            dismissed_at=dismissed,
            last_error=error,
            attempts=read_history(history),
            before=self._before(message_id, lane) if state in ("queued", "ready") else [],
            answer_id=answer_id,
            answer_to=self._answered_by(message_id, reply_to) if state is None else None,
            retry_of=retry_of,
            retried_as=self._retried(message_id, place) if dismissed and state == "dead" else None,
            owner_host=host,
            owner_folder=folder,
            now=self._db.clock(),
        )

    def _before(self, message_id: int, lane: str) -> list[int]:
        rows = self._db.rows(
            "SELECT message_id FROM deliveries WHERE lane=? AND message_id<?"
            f" AND state IN ('queued','ready','leased') ORDER BY message_id LIMIT {_MOST_BEFORE}",
            (lane, message_id),
        )
        return [number for (number,) in rows]

    def _answered_by(self, message_id: int, question: Any) -> int | None:
        """Return the question that a message answers, if it says so and that is true."""
        if not isinstance(question, int):
            return None
        rows = self._db.rows(
            "SELECT 1 FROM answers WHERE query_id=? AND answer_id=?", (question, message_id)
        )
        return question if rows else None

    def _retried(self, message_id: int, conversation: str) -> int | None:
        [(number,)] = self._db.rows(self._retry, (conversation, message_id, message_id))
        return None if number is None else int(number)
