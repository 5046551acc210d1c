"""Ends questions that nobody wants an answer to any more.

The answer says so, and comes in the order of the conversation: a question that waits behind others
is marked, is never claimed, and is answered as soon as those before it are.
"""

import json
from collections.abc import Sequence

from autopoll.bridge.queue_records import Cancelled, CancelOutcome
from autopoll.bridge.records import QueryState
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.lanes import CANCELLED
from autopoll.bridge.sql.query_states import query_states
from autopoll.bridge.sql.settlement import Settlement

_UNSETTLED = "d.state IN ('queued','ready','leased')"


class Cancellation:
    """Cancels enrolled questions; used within a transaction that has locked their conversations."""

    def __init__(self, db: Database, settlement: Settlement) -> None:
        self._db = db
        self._settlement = settlement

    def cancel(self, numbers: Sequence[int], words: str, now: int) -> list[Cancelled]:
        """Cancel questions and return what came of each, in order; `words` say who and when."""
        among = f"d.message_id IN ({self._db.dialect.numbers.format(':numbers')})"
        values = {"numbers": json.dumps([*numbers])}
        held = self._settlement.held(f"AND {among}", values, with_text=True, state=_UNSETTLED)
        rows = self._db.rows(
            f"SELECT d.message_id, d.state, d.not_before>={CANCELLED} FROM deliveries d"
            f" WHERE {among}",
            values,
        )
        was = {number: (state, bool(marked)) for number, state, marked in rows}
        waiting = [each.message_id for each in held if was[each.message_id][0] == "queued"]
        self._db.many(
            "UPDATE deliveries SET not_before=?, last_error=?, changed_at=? WHERE message_id=?"
            f" AND not_before<{CANCELLED}",
            [(CANCELLED, words, now, number) for number in waiting],
        )
        heads = [each for each in held if each.message_id not in waiting]
        self._settlement.end_as_cancelled(heads, words, now)
        self._settlement.end_cancelled(waiting, now)  # of which the head was among these
        states = {each.message_id: each for each in query_states(self._db, numbers)}
        return [_became(number, was.get(number), states.get(number)) for number in numbers]


def _became(number: int, was: tuple[str, bool] | None, query: QueryState | None) -> Cancelled:
    state, marked = was or (None, False)
    return Cancelled(
        message_id=number, outcome=_outcome(state, marked, query), was=state, query=query
    )


def _outcome(state: str | None, marked: bool, query: QueryState | None) -> CancelOutcome:
    if query is None:
        return "unknown"
    if state is None:
        return "unserved"
    if state in ("done", "dead"):
        return "settled"
    if query.settled_at is None:
        return "marked before" if marked else "in turn"
    return "cancelled"
