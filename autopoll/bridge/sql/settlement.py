"""Ends leases, and writes what has become of the deliveries.

A settle must name the fence and the owner of its claim. What `held` returns stays true until the
commit, since there is one writer, or since the rows are locked.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from autopoll.bridge.attempt_record import with_cancelled
from autopoll.bridge.records import (
    BridgeLimits,
    Failed,
    Outcome,
    Settled,
)
from autopoll.bridge.sql.costs import Costs
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.held_delivery import EndedDelivery, HeldDelivery, ReadyDelivery
from autopoll.bridge.sql.lanes import CANCELLED, Lanes
from autopoll.bridge.sql.outcome_rules import OutcomeRules
from autopoll.bridge.sql.query_states import query_states
from autopoll.bridge.sql.refused_rows import in_savepoint
from autopoll.bridge.sql.rows import insert_audit_lines, insert_messages
from autopoll.errors import RowRefused

_HELD = f"""SELECT d.message_id, d.conversation_id, d.to_session,
    CASE WHEN m.from_session IN ('a','b') THEN m.from_session END, d.shard, d.lane, d.attempts,
    d.fence, d.last_error, d.enrolled_at, d.history, {{}},
    (SELECT CASE WHEN w.not_before>={CANCELLED} THEN w.message_id END FROM deliveries w
      WHERE w.lane=d.lane AND w.state='queued' ORDER BY w.message_id LIMIT 1)
  FROM deliveries d LEFT JOIN messages m ON m.id=d.message_id WHERE """
FREE_CLAIMS = 20  # claims up to which the death of an owner costs the query no attempt
_LARGEST = 1 << 20  # bytes of a question that are read to answer it in its form
_TOGETHER = 16  # questions read at once, each of up to _LARGEST
MOST_CANCELLED = 2000  # that one after the other end in one transaction; a reap ends the others


class Settlement:
    """Ends leases; used within the transaction of the settle."""

    def __init__(self, db: Database, limits: BridgeLimits, lanes: Lanes, costs: Costs) -> None:
        self._db = db
        self._held, self._held_with_text = (
            _HELD.format(text) for text in ("''", db.dialect.question)
        )
        self._rules = OutcomeRules(limits)
        # Longer ones are answered by what can be told of them at once.
        self._largest = min(limits.max_message, _LARGEST)
        self._lanes = lanes
        self._costs = costs

    def held(
        self,
        which: str,
        values: dict[str, Any],
        *,
        with_text: bool = False,
        settled_by: str | None = None,
        state: str = "d.state='leased'",
    ) -> list[HeldDelivery]:
        """Return the leased deliveries that fulfil a condition, oldest first; or of other `state`.

        With the text of their questions only where it is wanted: each may be of megabytes.
        """
        # The plus keeps the planner from walking the table in its order instead of using d_lease.
        rows = self._db.rows(
            f"{self._held_with_text if with_text else self._held} {state} {which}"
            f" ORDER BY +d.message_id {self._db.dialect.for_update}",
            {**values, "max": self._largest},
        )
        return [HeldDelivery._make((*row, settled_by)) for row in rows]

    def settle(self, outcomes: Sequence[Outcome], owner: str, now: int) -> list[Settled]:
        """Settle outcomes and add what they have cost.

        A second outcome of one lease is lost, or says once more what the first has led to.
        """
        self._db.lock_conversations(deliveries={outcome.message_id for outcome in outcomes})
        # In the order in which all lock deliveries, so that no two wait for each other.
        order = sorted(range(len(outcomes)), key=lambda place: outcomes[place].message_id)
        ordered = [outcomes[place] for place in order]
        settled: list[Settled] = []
        cost: list[tuple[Outcome, Settled]] = []
        for first in range(0, len(ordered), _TOGETHER):
            settled += self._settle_together(ordered[first : first + _TOGETHER], owner, now, cost)
        self._costs.charge(cost, now)
        became = dict(zip(order, settled, strict=True))
        return [became[place] for place in range(len(outcomes))]

    def _settle_together(
        self,
        outcomes: Sequence[Outcome],
        owner: str,
        now: int,
        cost: list[tuple[Outcome, Settled]],
    ) -> list[Settled]:
        """Settle some; add to `cost` those that are to be charged, which is done once."""
        leases = [(outcome.message_id, outcome.fence) for outcome in outcomes]
        mine = {"numbers": json.dumps([number for number, _ in leases]), "owner": owner}
        among = self._among(":numbers")
        held = {
            (each.message_id, each.fence): each
            for each in self.held(
                f"AND {among} AND d.owner=:owner", mine, with_text=True, settled_by=owner
            )
        }
        repeated = self._settled_before(among, mine) if len(held) < len(leases) else {}
        settled = self._write_all(
            [
                # Taken away: a second outcome of the same lease finds it no longer held.
                repeated.get(lease) or self._apply(held.pop(lease, None), outcome, now)
                for lease, outcome in zip(leases, outcomes, strict=True)
            ],
            now,
        )
        became = zip(leases, outcomes, settled, strict=True)
        cost += [(outcome, one) for lease, outcome, one in became if lease not in repeated]
        self._record_cancelled(zip(outcomes, settled, strict=True), now)
        return settled

    def _record_cancelled(self, became: Iterable[tuple[Outcome, Settled]], now: int) -> None:
        """Keep who was at a question when it was cancelled: whoever cancels does not know."""
        late = {
            outcome.message_id: outcome.times
            for outcome, settled in became
            if settled.state == "lost" and outcome.times
        }
        if not late:
            return
        rows = self._db.rows(
            "SELECT d.message_id, d.attempts, d.history, d.last_error FROM deliveries d"
            f" WHERE d.state='dead' AND d.settled_by IS NULL AND d.last_error LIKE 'Cancelled%'"
            f" AND {self._among(':numbers')}",
            {"numbers": json.dumps([*late])},
        )
        changed = [
            (history, number)
            for number, tries, before, error in rows
            if (history := with_cancelled(before, tries, now, late[number], error))
        ]
        self._db.many("UPDATE deliveries SET history=? WHERE message_id=?", changed)

    def settle_one_by_one(self, outcomes: Sequence[Outcome], owner: str, now: int) -> list[Settled]:
        """Settle outcomes of which the store may refuse one; that one's error answer says so.

        What cannot be settled even so keeps its lease until that expires.
        """
        self._db.lock_conversations(deliveries={outcome.message_id for outcome in outcomes})
        return [self._settle_or_refuse(outcome, owner, now) for outcome in outcomes]

    def release(self, held: Sequence[HeldDelivery], now: int) -> None:
        """Make deliveries ready again and give the attempts back."""
        self._write([self._rules.release(each, now) for each in held], now)

    def end_for_dead(self, held: Sequence[HeldDelivery], now: int) -> None:
        """End the leases of an owner that is dead."""
        self.release([each for each in held if each.fence <= FREE_CLAIMS], now)
        self.fail([each for each in held if each.fence > FREE_CLAIMS], "its poller died", now)

    def fail(self, held: Sequence[HeldDelivery], error: str, now: int) -> list[Settled]:
        """Settle deliveries as failed; what cannot be stored of it is left out."""
        settled: list[Settled] = []
        for first in range(0, len(held), _TOGETHER):
            some = held[first : first + _TOGETHER]
            done = self._in_savepoint(partial(self._fail_together, some, error, now), some)
            if done is None:
                alone = [
                    self._in_savepoint(partial(self._fail_together, [each], error, now), [each])
                    for each in some
                ]
                done = [one for each in alone if each for one in each]
            settled += done
        return settled

    def _fail_together(self, held: Sequence[HeldDelivery], error: str, now: int) -> list[Settled]:
        numbers = json.dumps([each.message_id for each in held])
        whole = self.held(f"AND {self._among(':numbers')}", {"numbers": numbers}, with_text=True)
        return self._write_all([self._rules.fail(each, error, now) for each in whole], now)

    def _among(self, numbers: str) -> str:
        return f"d.message_id IN ({self._db.dialect.numbers.format(numbers)})"

    def _apply(
        self, held: HeldDelivery | None, outcome: Outcome, now: int
    ) -> Settled | EndedDelivery | ReadyDelivery:
        if held is None:
            return Settled(message_id=outcome.message_id, state="lost")
        return self._rules.apply(held, outcome, now)

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
        refused = Failed(
            message_id=outcome.message_id,
            fence=outcome.fence,
            error="the answer cannot be stored in the bridge",
            wait_ms=0,
            permanent=True,
            usage=outcome.usage,
        )
        for one in (outcome, refused):
            if settled := self._in_savepoint(partial(self.settle, [one], owner, now), [one]):
                return settled[0]
        return Settled(message_id=outcome.message_id, state="lost")

    def _in_savepoint(
        self, settle: Callable[[], list[Settled]], those: Sequence[Outcome | HeldDelivery]
    ) -> list[Settled] | None:
        """Settle in a transaction within the transaction; None when nothing came of it."""
        numbers = ", ".join(str(each.message_id) for each in those)
        settled = in_savepoint(self._db, f"settle question {numbers}", settle)
        return None if isinstance(settled, RowRefused) else settled

    def _write(
        self, settled: Sequence[Settled | EndedDelivery | ReadyDelivery], now: int
    ) -> list[Settled]:
        """Write what becomes of deliveries, all at once; return it in their order."""
        ended = [each for each in settled if isinstance(each, EndedDelivery)]
        ready = [each for each in settled if isinstance(each, ReadyDelivery)]
        numbers = insert_messages(self._db, [each.message() for each in ended], answers=True)
        pairs = [*zip(ended, numbers, strict=True)]
        if pairs or ready:
            with self._db.together():
                self._write_ready(ready, now)
                self._write_ends(pairs, now)
        answers = iter(numbers)
        became = []
        for each in settled:
            match each:
                case EndedDelivery():
                    became.append(each.settled(next(answers), now))
                case ReadyDelivery():
                    became.append(each.settled())
                case Settled():
                    became.append(each)
        return became

    def _write_ready(self, ready: Sequence[ReadyDelivery], now: int) -> None:
        """Write which deliveries are to be claimed again."""
        self._db.many(
            "UPDATE deliveries SET state='ready', owner=NULL, lease_until=NULL, attempts=?,"
            " not_before=?, changed_at=?, last_error=coalesce(?,last_error), settled_by=?,"
            " history=coalesce(?,history) WHERE message_id=?",
            [
                (each.attempts, each.not_before, now, each.error, each.held.settled_by,
                 each.history, each.held.message_id)
                for each in ready
            ],
        )  # fmt: skip

    def _write_ends(self, pairs: Sequence[tuple[EndedDelivery, int]], now: int) -> None:
        """Write how deliveries end, and with which answers."""
        ended = [each for each, _ in pairs]
        self._db.many(
            "UPDATE deliveries SET state=?, owner=NULL, lease_until=NULL, changed_at=?,"
            " settled_at=?, dismissed_at=?, last_error=coalesce(?,last_error), settled_by=?,"
            " history=coalesce(?,history) WHERE message_id=?",
            [
                (each.state, now, now, now if each.is_dismissed else None, each.error,
                 each.held.settled_by, each.history, each.held.message_id)
                for each in ended
            ],
        )  # fmt: skip
        self._db.many(
            "INSERT INTO answers VALUES(?,?,?)",
            [(each.held.message_id, number, each.held.fence) for each, number in pairs],
        )
        lines = [each.audit_line(number) for each, number in pairs if not each.is_canary]
        insert_audit_lines(self._db, lines)
        self._lanes.promote([each.held.lane for each in ended], now)

    def _write_all(
        self, settled: Sequence[Settled | EndedDelivery | ReadyDelivery], now: int
    ) -> list[Settled]:
        """Write what becomes of deliveries, and end what was cancelled behind them."""
        became = self._write(settled, now)
        ended = [each.held for each in settled if isinstance(each, EndedDelivery)]
        self.end_cancelled([each.next_cancelled for each in ended if each.next_cancelled], now)
        return became

    def end_cancelled(self, numbers: Sequence[int], now: int) -> list[Settled]:
        """End those of these that were cancelled while they waited and are heads, and what follows
        them likewise, up to MOST_CANCELLED of each lane.

        A lane of which the store refuses something is left as it is, for a later reap.
        """
        settled: list[Settled] = []
        for number in numbers:
            words = f"end question {number}, which was cancelled"
            done = in_savepoint(self._db, words, partial(self._end_lane, [number], now))
            settled += [] if isinstance(done, RowRefused) else done
        return settled

    def _end_lane(self, numbers: Sequence[int], now: int) -> list[Settled]:
        settled: list[Settled] = []
        for _ in range(MOST_CANCELLED):
            if not numbers:
                break
            heads = self.held(
                f"AND d.not_before>={CANCELLED} AND {self._among(':numbers')}",
                {"numbers": json.dumps([*numbers])},
                with_text=True,
                state="d.state='ready'",
            )
            ends = [self._rules.cancel(each, each.last_error or "Cancelled.") for each in heads]
            settled += self._write(ends, now)
            numbers = [each.next_cancelled for each in heads if each.next_cancelled]
        return settled

    def end_as_cancelled(self, held: Sequence[HeldDelivery], words: str, now: int) -> None:
        """End heads of lanes as cancelled; what is leased of them is lost to its owner."""
        self._write_all([self._rules.cancel(each, words) for each in held], now)
