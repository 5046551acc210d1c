"""How questions stand, each as its asker may see it."""

import json
from collections.abc import Sequence
from typing import Any

from autopoll.bridge.records import QueryState
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.rows import message_columns, message_of, readable, stored


def query_state(db: Database, message_id: int) -> QueryState | None:
    """Return the state of one question, None when there is none; in half the time of a list."""
    rows = db.rows(f"{_select(db)} WHERE q.id=?", (message_id,))
    return _state(rows[0]) if rows else None


def query_states(db: Database, message_ids: Sequence[int]) -> list[QueryState]:
    """Return the states of those questions that exist."""
    rows = db.rows(
        f"{_select(db)} WHERE q.id IN ({db.dialect.numbers.format('?')})",
        (json.dumps(list(message_ids)),),
    )
    return [_state(row) for row in rows]


def _select(db: Database) -> str:
    place = stored(db.dialect, "q.conversation_id", "q.to_session")
    return (
        f"SELECT q.id, {place}, d.state, d.shard, d.attempts, d.last_error, d.enrolled_at,"
        f" d.settled_at, {message_columns(db.dialect)}"
        " FROM messages q LEFT JOIN deliveries d ON d.message_id=q.id"
        " LEFT JOIN answers a ON a.query_id=q.id LEFT JOIN messages m ON m.id=a.answer_id"
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
        answer=message_of(answer) if answer[0] is not None else None,
        enrolled_at=enrolled,
        settled_at=settled,
    )
