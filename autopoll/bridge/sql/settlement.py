"""What an outcome makes of a leased delivery: done, ready again, or dead.

A settle must name the fence and the owner of its claim. Since writers are serialized, what a
transaction has read stays true until it commits.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import to_builtins

from autopoll.bridge.records import (
    Answered,
    BridgeLimits,
    Failed,
    Outcome,
    Released,
    Settled,
)
from autopoll.bridge.sql.costs import Costs
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.held_delivery import EndedDelivery, HeldDelivery
from autopoll.bridge.sql.lanes import Lanes
from autopoll.bridge.sql.query_states import query_states
from autopoll.bridge.sql.refused_rows import OF_ONE_ROW, log_error
from autopoll.bridge.sql.rows import insert_audit_lines, insert_messages, readable
from autopoll.message import Answer, write_answer
from autopoll.redact.redact import redact
from autopoll.request import Usage
from autopoll.text import storable

_HELD = """SELECT d.message_id, d.conversation_id, d.to_session,
    CASE WHEN m.from_session IN ('a','b') THEN m.from_session END, d.shard, d.lane, d.attempts,
    d.fence, d.last_error, d.enrolled_at, {}
  FROM deliveries d LEFT JOIN messages m ON m.id=d.message_id WHERE d.state='leased'"""
FREE_CLAIMS = 20  # claims up to which the death of an owner costs the query no attempt
_TOGETHER = 16  # questions read at once, of which each may be of megabytes

_One = TypeVar("_One", bound=Outcome | HeldDelivery)


class Settlement:
    """Ends leases; used within the transaction of the settle."""

    def __init__(self, db: Database, limits: BridgeLimits, lanes: Lanes, costs: Costs) -> None:
        self._db = db
        self._held, self._held_with_text = (
            _HELD.format(text) for text in ("''", db.dialect.question)
        )
        self._limits = limits
        self._lanes = lanes
        self._costs = costs

    def held(
        self,
        which: str,
        values: dict[str, Any],
        *,
        with_text: bool = False,
        settled_by: str | None = None,
    ) -> list[HeldDelivery]:
        """Return the leased deliveries that fulfil a condition, oldest first.

        With the text of their questions only where it is wanted: each may be of megabytes.
        """
        # The plus keeps the planner from walking the table in its order instead of using d_lease.
        rows = self._db.rows(
            f"{self._held_with_text if with_text else self._held} {which}"
            f" ORDER BY +d.message_id {self._db.dialect.for_update}",
            {**values, "max": self._limits.max_message},
        )
        return [HeldDelivery._make((*row, settled_by)) for row in rows]

    def settle(self, outcomes: Sequence[Outcome], owner: str, now: int) -> list[Settled]:
        """Settle outcomes and add what they have cost.

        A second outcome of one lease is lost, or says once more what the first has led to.
        """
        self._db.lock_conversations(deliveries={outcome.message_id for outcome in outcomes})
        slices = range(0, len(outcomes), _TOGETHER)
        return [
            settled
            for first in slices
            for settled in self._settle_together(outcomes[first : first + _TOGETHER], owner, now)
        ]

    def _settle_together(self, outcomes: Sequence[Outcome], owner: str, now: int) -> list[Settled]:
        leases = [(outcome.message_id, outcome.fence) for outcome in outcomes]
        mine = {"numbers": json.dumps([number for number, _ in leases]), "owner": owner}
        among = f"d.message_id IN ({self._db.dialect.numbers.format(':numbers')})"
        held = {
            (each.message_id, each.fence): each
            for each in self.held(
                f"AND {among} AND d.owner=:owner",
                mine,
                with_text=True,
                settled_by=owner,
            )
        }
        repeated = self._settled_before(among, mine) if len(held) < len(leases) else {}
        settled = self._write(
            [
                # Taken away: a second outcome of the same lease finds it no longer held.
                repeated.get(lease) or self._settle(held.pop(lease, None), outcome, now)
                for lease, outcome in zip(leases, outcomes, strict=True)
            ],
            now,
        )
        became = zip(leases, outcomes, settled, strict=True)
        self._costs.charge(
            [(outcome, one) for lease, outcome, one in became if lease not in repeated], now
        )
        return settled

    def settle_one_by_one(self, outcomes: Sequence[Outcome], owner: str, now: int) -> list[Settled]:
        """Settle outcomes of which the store may refuse one; that one's error answer says so.

        What cannot be settled even so keeps its lease until that expires.
        """
        self._db.lock_conversations(deliveries={outcome.message_id for outcome in outcomes})
        return [self._settle_or_refuse(outcome, owner, now) for outcome in outcomes]

    def release(self, held: HeldDelivery, now: int) -> Settled:
        """Make a delivery ready again and give the attempt back."""
        return self._make_ready(held, now, attempts=held.attempts - 1)

    def end_for_dead(self, held: HeldDelivery, now: int) -> None:
        """End the lease of an owner that is dead."""
        if held.fence <= FREE_CLAIMS:
            self.release(held, now)
        else:
            self.try_fail(held, "its poller died", now)

    def try_fail(self, held: HeldDelivery, error: str, now: int) -> Settled | None:
        """Settle a delivery as failed; return None when that could not be stored."""

        def fail(one: HeldDelivery) -> Settled:
            [whole] = self.held(
                "AND d.message_id=:number", {"number": one.message_id}, with_text=True
            )
            [settled] = self._write([self._fail(whole, error, 0, now)], now)
            return settled

        return self._in_savepoint(held, fail)

    def _settled_before(self, among: str, mine: dict[str, str]) -> dict[tuple[int, int], Settled]:
        """Return by (message_id, fence) what became of leases that their owner settled before."""
        rows = self._db.rows(
            "SELECT d.message_id, d.fence, d.state, a.answer_id FROM deliveries d LEFT JOIN answers"
            " a ON a.query_id=d.message_id WHERE d.settled_by=:owner AND d.state<>'leased'"
            f" AND {among}",
            mine,
        )
        queries = {
            query.message_id: query
            for query in query_states(self._db, [message_id for message_id, *_ in rows])
        }
        return {
            (message_id, fence): Settled(
                message_id=message_id,
                state=state,
                answer_id=answer_id,
                query=queries.get(message_id),
            )
            for message_id, fence, state, answer_id in rows
        }

    def _settle_or_refuse(self, outcome: Outcome, owner: str, now: int) -> Settled:
        def settle(one: Outcome) -> Settled:
            [settled] = self.settle([one], owner, now)
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

    def _settle(
        self, held: HeldDelivery | None, outcome: Outcome, now: int
    ) -> Settled | EndedDelivery:
        if held is None:
            return Settled(message_id=outcome.message_id, state="lost")
        match outcome:
            case Answered():
                return self._end(held, outcome.answer, seconds=outcome.seconds, usage=outcome.usage)
            case Failed(permanent=True):
                return self._end_dead(held, outcome.error, outcome.error, outcome.usage)
            case Failed():
                return self._fail(held, outcome.error, outcome.wait_ms, now, outcome.usage)
            case Released():
                return self.release(held, now)

    def _fail(
        self, held: HeldDelivery, error: str, wait_ms: int, now: int, usage: Usage | None = None
    ) -> Settled | EndedDelivery:
        if held.attempts < self._limits.max_attempts:
            return self._make_ready(held, now, attempts=held.attempts, wait_ms=wait_ms, error=error)
        times = "1 attempt" if held.attempts == 1 else f"{held.attempts} attempts"
        return self._end_dead(held, f"No answer after {times}: {error}", error, usage)

    def _make_ready(
        self,
        held: HeldDelivery,
        now: int,
        *,
        attempts: int,
        wait_ms: int = 0,
        error: str | None = None,
    ) -> Settled:
        clean = error and self._clean(error)
        self._db.rows(
            "UPDATE deliveries SET state='ready', owner=NULL, lease_until=NULL, attempts=?,"
            " not_before=?, changed_at=?, last_error=coalesce(?,last_error), settled_by=?"
            " WHERE message_id=?",
            (attempts, now + wait_ms, now, clean, held.settled_by, held.message_id),
        )
        return Settled(
            message_id=held.message_id,
            state="ready",
            query=held.query("ready", attempts, clean),
        )

    def _end_dead(
        self, held: HeldDelivery, text: str, error: str, usage: Usage | None
    ) -> EndedDelivery:
        return self._end(held, Answer(text=text, error=True), error=error, usage=usage)

    def _end(
        self,
        held: HeldDelivery,
        answer: Answer,
        *,
        seconds: float = 0.0,
        error: str | None = None,
        usage: Usage | None = None,
    ) -> EndedDelivery:
        """Return the one answer and the end of its delivery: dead when there is an `error`."""
        text, metadata = write_answer(
            readable(held.question) or "",
            Answer(text=self._clean(answer.text), sources=answer.sources, error=answer.error),
            message_id=held.message_id,
            shard=held.shard,
            attempt=held.attempts,
            seconds=seconds,
            usage=to_builtins(usage),
        )
        state = "done" if error is None else "dead"
        return EndedDelivery(held, state, error and self._clean(error), storable(text), metadata)

    def _write(self, settled: Sequence[Settled | EndedDelivery], now: int) -> list[Settled]:
        """Write the answers of those that end, all at once, and return what became of each."""
        ended = [each for each in settled if isinstance(each, EndedDelivery)]
        numbers = insert_messages(self._db, [each.message() for each in ended], answers=True)
        pairs = [*zip(ended, numbers, strict=True)]
        if pairs:
            with self._db.together():
                self._write_ends(pairs, now)
        answers = iter(numbers)
        return [
            each.settled(next(answers), now) if isinstance(each, EndedDelivery) else each
            for each in settled
        ]

    def _write_ends(self, pairs: Sequence[tuple[EndedDelivery, int]], now: int) -> None:
        """Write how deliveries end, and with which answers."""
        ended = [each for each, _ in pairs]
        self._db.many(
            "UPDATE deliveries SET state=?, owner=NULL, lease_until=NULL, changed_at=?,"
            " settled_at=?, last_error=coalesce(?,last_error), settled_by=? WHERE message_id=?",
            [
                (each.state, now, now, each.error, each.held.settled_by, each.held.message_id)
                for each in ended
            ],
        )
        self._db.many(
            "INSERT INTO answers VALUES(?,?,?)",
            [(each.held.message_id, number, each.held.fence) for each, number in pairs],
        )
        insert_audit_lines(self._db, [each.audit_line(number) for each, number in pairs])
        self._lanes.promote([each.held.lane for each in ended], now)

    def _clean(self, text: str) -> str:
        return storable(redact(text) if self._limits.redact else text)
