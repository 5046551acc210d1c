"""What an outcome makes of a leased delivery: done, ready again, or dead.

A settle must name the fence of its claim. Since writers are serialized, what a transaction has read
stays true until it commits.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec import to_builtins

from autopoll.bridge.records import (
    Answered,
    BridgeLimits,
    Failed,
    Message,
    Outcome,
    QueryState,
    Released,
    Settled,
)
from autopoll.bridge.sqlite.connection import Database
from autopoll.bridge.sqlite.costs import Costs
from autopoll.bridge.sqlite.driver_errors import OF_ONE_ROW, log_error
from autopoll.bridge.sqlite.lanes import Lanes
from autopoll.bridge.sqlite.rows import TEXT, insert_audit_line, insert_message, other_session
from autopoll.message import Answer, to_json, write_answer
from autopoll.redact.redact import redact
from autopoll.request import Usage
from autopoll.text import storable

_HELD = f"""SELECT d.message_id, d.conversation_id, d.to_session,
    CASE WHEN m.from_session IN ('a','b') THEN m.from_session END, d.shard, d.lane, d.attempts,
    d.fence, d.last_error, d.enrolled_at, {TEXT}
  FROM deliveries d LEFT JOIN messages m ON m.id=d.message_id WHERE d.state='leased'"""


class Held(NamedTuple):
    """A leased delivery; `question` is as `TEXT` selects it, empty when the message was deleted."""

    message_id: int
    conversation: str
    session: str
    sender: str | None
    shard: str
    lane: str
    attempts: int
    fence: int
    last_error: str | None
    enrolled_at: int
    question: bytes

    def query(
        self,
        state: str,
        attempts: int,
        error: str | None,
        answer: Message | None = None,
        settled_at: int | None = None,
    ) -> QueryState:
        """Return the question as it stands after its lease."""
        return QueryState(
            message_id=self.message_id,
            conversation=self.conversation,
            session=self.session,
            state=state,
            shard=self.shard,
            attempts=attempts,
            last_error=error or self.last_error,
            answer=answer,
            enrolled_at=self.enrolled_at,
            settled_at=settled_at,
        )


_One = TypeVar("_One", bound=Outcome | Held)


class Settlement:
    """Ends leases; used within the transaction of the settle."""

    def __init__(self, db: Database, limits: BridgeLimits, lanes: Lanes, costs: Costs) -> None:
        self._db = db
        self._limits = limits
        self._lanes = lanes
        self._costs = costs

    def held(self, which: str, values: dict[str, Any]) -> list[Held]:
        """Return the leased deliveries that fulfil a condition, oldest first."""
        # The plus keeps the planner from walking the table in its order instead of using d_lease.
        rows = self._db.rows(
            f"{_HELD} {which} ORDER BY +d.message_id",
            {**values, "max": self._limits.max_message},
        )
        return [Held(*row) for row in rows]

    def settle(self, outcomes: Sequence[Outcome], now: int) -> list[Settled]:
        """Settle outcomes and add what they have cost."""
        settled = [self._settle(outcome, now) for outcome in outcomes]
        self._costs.charge(outcomes, settled, now)
        return settled

    def settle_one_by_one(self, outcomes: Sequence[Outcome], now: int) -> list[Settled]:
        """Settle outcomes of which the store may refuse one; that one's error answer says so.

        What cannot be settled even so keeps its lease until that expires.
        """
        return [self._settle_or_refuse(outcome, now) for outcome in outcomes]

    def release(self, held: Held, now: int) -> Settled:
        """Make a delivery ready again and give the attempt back."""
        return self._make_ready(held, now, attempts=held.attempts - 1)

    def try_fail(self, held: Held, error: str, now: int) -> Settled | None:
        """Settle a delivery as failed; return None when that could not be stored."""
        return self._in_savepoint(held, lambda one: self._fail(one, error, 0, now))

    def _settle_or_refuse(self, outcome: Outcome, now: int) -> Settled:
        def settle(one: Outcome) -> Settled:
            [settled] = self.settle([one], now)
            return settled

        refused = Failed(
            message_id=outcome.message_id,
            fence=outcome.fence,
            error="the answer cannot be stored in the bridge",
            wait_ms=0,
            permanent=True,
            usage=outcome.usage,
        )
        settled = self._in_savepoint(outcome, settle) or self._in_savepoint(refused, settle)
        return settled or Settled(message_id=outcome.message_id, state="lost")

    def _in_savepoint(self, one: _One, settle: Callable[[_One], Settled]) -> Settled | None:
        """Settle one in a transaction within the transaction; None when nothing came of it."""
        self._db.rows("SAVEPOINT one")
        try:
            settled = settle(one)
        except OF_ONE_ROW as error:
            self._db.rows("ROLLBACK TO one")
            self._db.rows("RELEASE one")
            log_error(f"question {one.message_id} cannot be settled: {error}")
            return None
        self._db.rows("RELEASE one")
        return settled

    def _settle(self, outcome: Outcome, now: int) -> Settled:
        held = self.held(
            "AND d.message_id=:id AND d.fence=:fence",
            {"id": outcome.message_id, "fence": outcome.fence},
        )
        if not held:
            return Settled(message_id=outcome.message_id, state="lost")
        match outcome:
            case Answered():
                return self._answer(
                    held[0], outcome.answer, now, seconds=outcome.seconds, usage=outcome.usage
                )
            case Failed(permanent=True):
                return self._fail_for_good(
                    held[0], outcome.error, outcome.error, now, outcome.usage
                )
            case Failed():
                return self._fail(held[0], outcome.error, outcome.wait_ms, now, outcome.usage)
            case Released():
                return self.release(held[0], now)

    def _fail(
        self, held: Held, error: str, wait_ms: int, now: int, usage: Usage | None = None
    ) -> Settled:
        if held.attempts < self._limits.max_attempts:
            return self._make_ready(held, now, attempts=held.attempts, wait_ms=wait_ms, error=error)
        times = "1 attempt" if held.attempts == 1 else f"{held.attempts} attempts"
        return self._fail_for_good(held, f"No answer after {times}: {error}", error, now, usage)

    def _make_ready(
        self, held: Held, now: int, *, attempts: int, wait_ms: int = 0, error: str | None = None
    ) -> Settled:
        clean = error and self._clean(error)
        self._db.rows(
            "UPDATE deliveries SET state='ready', owner=NULL, lease_until=NULL, attempts=?,"
            " not_before=?, changed_at=?, last_error=coalesce(?,last_error) WHERE message_id=?",
            (attempts, now + wait_ms, now, clean, held.message_id),
        )
        return Settled(
            message_id=held.message_id,
            state="ready",
            query=held.query("ready", attempts, clean),
        )

    def _fail_for_good(
        self, held: Held, text: str, error: str, now: int, usage: Usage | None
    ) -> Settled:
        return self._answer(held, Answer(text=text, error=True), now, error=error, usage=usage)

    def _answer(
        self,
        held: Held,
        answer: Answer,
        now: int,
        *,
        seconds: float = 0.0,
        error: str | None = None,
        usage: Usage | None = None,
    ) -> Settled:
        """Write the one answer and end the delivery: done, or dead when there is an `error`."""
        state = "done" if error is None else "dead"
        clean = error and self._clean(error)
        self._db.rows(
            "UPDATE deliveries SET state=?, owner=NULL, lease_until=NULL, changed_at=?,"
            " settled_at=?, last_error=coalesce(?,last_error) WHERE message_id=?",
            (state, now, now, clean, held.message_id),
        )
        message = self._insert_answer(held, answer, seconds, usage)
        facts = {
            "message_id": held.message_id, "answer_id": message.id, "state": state,
            "shard": held.shard, "attempts": held.attempts,
        }  # fmt: skip
        insert_audit_line(
            self._db, held.conversation, held.session, "query_answered", to_json(facts)
        )
        self._lanes.promote(held.lane, now)
        return Settled(
            message_id=held.message_id,
            state=state,
            answer_id=message.id,
            query=held.query(state, held.attempts, clean, message, now),
        )

    def _insert_answer(
        self, held: Held, answer: Answer, seconds: float, usage: Usage | None
    ) -> Message:
        """Store the answer as a message to the sender of the question, and return it."""
        text, metadata = write_answer(
            held.question.decode("utf-8", "replace"),
            Answer(text=self._clean(answer.text), sources=answer.sources, error=answer.error),
            message_id=held.message_id,
            shard=held.shard,
            attempt=held.attempts,
            seconds=seconds,
            usage=to_builtins(usage),
        )
        recipient = held.sender or other_session(held.session)
        text = storable(text)
        answer_id = insert_message(
            self._db, held.conversation, held.session, recipient, text, metadata
        )
        self._db.rows("INSERT INTO answers VALUES(?,?,?)", (held.message_id, answer_id, held.fence))
        return Message(
            id=answer_id,
            conversation=held.conversation,
            sender=held.session,
            recipient=recipient,
            text=text,
            metadata=metadata,
            timestamp="",
            read=False,
        )

    def _clean(self, text: str) -> str:
        return storable(redact(text) if self._limits.redact else text)
