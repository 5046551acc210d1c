"""Questions as a list, the newest first, a page at a time.

A page looks through no more than a window of questions, so that it costs the same in a large store
and for a shard that is hardly ever asked.
"""

import json
from contextlib import closing
from typing import Any

from autopoll.bridge.question_list import ListedQuestion, QuestionList
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.lanes import CANARY_LANES
from autopoll.bridge.sql.rows import metadata_column, readable, stored
from autopoll.clock import parse_utc_ms
from autopoll.message import read_answer, read_content

WINDOW = 10_000  # questions that one page looks through
SHOWN = 4000  # characters of a text


class QuestionLists:
    """The lists of one store."""

    def __init__(self, db: Database) -> None:
        self._db = db
        texts = stored(db.dialect, "d.conversation_id", "m.from_session", "m.timestamp")
        roles = stored(db.dialect, "c.session_a_role", "c.session_b_role")
        bodies = ", ".join(f"substr({stored(db.dialect, f'{t}.message')},1,{SHOWN})" for t in "mr")
        answer = metadata_column(db.dialect).replace("m.metadata", "r.metadata")
        self._details = (
            f"SELECT d.message_id, {texts}, {roles}, d.shard, d.state, d.enrolled_at,"
            f" d.settled_at, d.attempts, d.last_error, {metadata_column(db.dialect)}, {answer},"
            f" {bodies} FROM deliveries d LEFT JOIN messages m ON m.id=d.message_id"
            " LEFT JOIN conversations c ON c.id=d.conversation_id"
            " LEFT JOIN answers a ON a.query_id=d.message_id"
            " LEFT JOIN messages r ON r.id=a.answer_id"
            f" WHERE d.message_id IN ({db.dialect.numbers.format(':numbers')})"
            " ORDER BY d.message_id DESC"
        )

    def page(
        self,
        *,
        state: str | None,
        shard: str | None,
        conversation: str | None,
        before: int | None,
        limit: int,
    ) -> QuestionList:
        values = {
            "shard": shard,
            "state": state,
            "conversation": conversation,
            "before": (1 << 63) - 1 if before is None else before,
            "limit": limit + 1,
        }
        window = self._window(state, conversation)
        found = self._db.rows(
            f"SELECT message_id FROM ({window}) looked WHERE shard=coalesce(:shard,shard)"
            " ORDER BY message_id DESC LIMIT :limit",
            values,
        )
        numbers = [number for (number,) in found[:limit]]
        further = numbers[-1] if len(found) > limit else self._end_of(window, values)
        return QuestionList(questions=self._shown(numbers), next=further)

    def _window(self, state: str | None, conversation: str | None) -> str:
        if state not in (None, "done", "dead"):
            raise ValueError(f"no state of what is settled: {state!r}")
        # As a literal, so that the index of the dead is seen to hold them.
        terms = f" AND d.state='{state}'" if state else ""
        rows, number = "deliveries d", "d.message_id"
        if conversation is not None:
            rows = f"messages m {self._db.dialect.ordered_join} deliveries d ON d.message_id=m.id"
            number = "m.id"  # by which the index of conversations is in order
            terms += " AND m.conversation_id=:conversation"
        return (
            f"SELECT {number} AS message_id, d.shard FROM {rows} WHERE {number}<:before"
            f" AND d.lane NOT LIKE '{CANARY_LANES}'{terms} ORDER BY {number} DESC LIMIT {WINDOW}"
        )

    def _end_of(self, window: str, values: dict[str, Any]) -> int | None:
        """Return the last question that was looked at; None when there was none beyond it."""
        [(count, last)] = self._db.rows(
            f"SELECT count(*), min(message_id) FROM ({window}) looked", values
        )
        return last if count == WINDOW else None

    def _shown(self, numbers: list[int]) -> list[ListedQuestion]:
        if not numbers:
            return []
        with closing(self._db.each(self._details, {"numbers": json.dumps(numbers)})) as rows:
            return [_listed(row) for row in rows]


def _listed(row: tuple[Any, ...]) -> ListedQuestion:
    (number, conversation, sender, sent, role_a, role_b, shard, state, enrolled, settled, attempts,
     error, metadata, answer_metadata, text, answer_text) = row  # fmt: skip
    session = readable(sender) or ""
    answered = answer_text is not None
    reply, about = readable(answer_text) or "", readable(answer_metadata)
    times = [parse_utc_ms(readable(sent)), enrolled]
    return ListedQuestion(
        id=number,
        conversation=readable(conversation) or "",
        asker=session,
        role=readable(role_b if session == "b" else role_a) or "",
        shard=shard,
        state=state,
        asked_at=min(each for each in times if each is not None),
        settled_at=settled,
        latency_ms=None if settled is None else max(0, settled - enrolled),
        attempts=attempts,
        last_error=error,
        question=read_content(readable(text) or "", readable(metadata)).text,
        answer=read_content(reply, about).text if answered else None,
        failed=answered and read_answer(reply, about).error,
    )
