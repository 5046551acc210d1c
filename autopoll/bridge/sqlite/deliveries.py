"""Routes, claims and settlements.

Two guards carry everything: the unique index `d_head` lets at most one delivery of a lane be ready
or leased, and a settle must name the fence of its claim. Since writers are serialized, what a
transaction has read stays true until it commits.
"""
# ruff: noqa: S608 - what is put into a statement are constants of this package, never values

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec import to_builtins

from autopoll.bridge.records import Answered, Delivery, Failed, Outcome, Released, Settled
from autopoll.bridge.sqlite import connection
from autopoll.bridge.sqlite.costs import Costs
from autopoll.bridge.sqlite.enrolment import (
    CLOCK_SLACK_MS,
    DUE,
    HEAD,
    METADATA,
    TEXT,
    Claim,
    Enrolment,
    Sight,
)
from autopoll.bridge.sqlite.rows import other_session, readable
from autopoll.clock import utc_iso
from autopoll.errors import RowRefused
from autopoll.home.lock import acquire
from autopoll.message import Answer, to_json, write_answer
from autopoll.redact.redact import redact
from autopoll.request import Usage
from autopoll.text import storable

_EXPIRED = "the lease expired"
ANNOUNCED_S = 45  # how long an announcement is left as it is; legacy partners believe it for 120
# What is raised for one row that cannot be read or written, and says nothing of the others.
_OF_ONE_ROW = (RowRefused, ValueError, TypeError, OverflowError, RecursionError)
FREE_CLAIMS = 20  # claims up to which the death of an owner costs the query no attempt

_READY = f"""SELECT d.message_id, d.conversation_id, d.to_session, d.lane, d.fence, d.attempts,
    d.enrolled_at, coalesce(octet_length(m.message),0)<=:max,
    CASE WHEN octet_length(m.message)<=:max THEN CAST(m.message AS BLOB) END, {METADATA}
  FROM deliveries d LEFT JOIN messages m ON m.id=d.message_id
  WHERE d.state='ready' AND d.shard=:shard AND {DUE} ORDER BY d.message_id LIMIT :count"""
_HELD = f"""SELECT d.message_id, d.conversation_id, d.to_session,
    CASE WHEN m.from_session IN ('a','b') THEN m.from_session END, d.shard, d.lane, d.attempts,
    d.fence, d.waiter, {TEXT}
  FROM deliveries d LEFT JOIN messages m ON m.id=d.message_id WHERE d.state='leased'"""


class _Held(NamedTuple):
    """A leased delivery; `question` is as `TEXT` tells, empty when the message was deleted."""

    message_id: int
    conversation: str
    session: str
    sender: str | None
    shard: str
    lane: str
    attempts: int
    fence: int
    waiter: str | None
    question: bytes


_One = TypeVar("_One", bound=Outcome | _Held)


class Deliveries(Enrolment, Costs):
    """The way of a message to its answer."""

    _lock: int | None = None  # descriptor of the answerer's lock

    def close(self) -> None:
        """Let go of the file and of being its answerer; tolerated twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        super().close()

    def serve(self, conversation: str, session: str, shard: str) -> None:
        """Route what is sent to this session to a shard; raise NotFound.

        What is enrolled but not begun moves to the shard too.
        """
        other_session(session)
        values = {"c": conversation, "s": session, "shard": shard}
        with self._writing():
            self._require(conversation)
            # REPLACE, because it gives the route a new number, by which a poller notices it.
            self._rows(
                "REPLACE INTO routes(conversation_id,session,shard) VALUES(:c,:s,:shard)", values
            )
            for state in ("queued", "ready"):  # one by one, because each has an index of its own
                self._rows(
                    "UPDATE deliveries SET shard=:shard WHERE conversation_id=:c AND to_session=:s"
                    f" AND state='{state}'",
                    values,
                )

    def unserve(self, conversation: str, session: str) -> None:
        """Stop routing; what is enrolled already is still answered; raise NotFound."""
        with self._writing():
            stopped = self._rows(
                "DELETE FROM routes WHERE conversation_id=? AND session=? RETURNING id",
                (conversation, session),
            )
            if not stopped:  # the route of a conversation that somebody deleted can be stopped
                self._require(conversation)

    def routes(self) -> dict[tuple[str, str], str]:
        """Return (conversation, session) -> shard."""
        rows = self._rows("SELECT conversation_id, session, shard FROM routes ORDER BY id")
        return {(conversation, session): shard for conversation, session, shard in rows}

    def shard_of(self, conversation: str, session: str) -> str | None:
        """Return the shard that answers a session, None when none does."""
        rows = self._rows(
            "SELECT shard FROM routes WHERE conversation_id=? AND session=?",
            (conversation, session),
        )
        shard: str | None = rows[0][0] if rows else None
        return shard

    def take_over(self, owner: str) -> int:
        """Become the one answerer, free what earlier owners still held, and return how many.

        Raises AlreadyRunning while another process answers here. The attempt is given back up to
        FREE_CLAIMS claims, so that a query which kills its poller ends as a dead letter all the
        same.
        """
        if self._lock is None:
            self._lock = acquire(
                self.path.with_name(f"{self.path.name}-poller.lock"), f"a poller of {self.path}"
            )
        with self._writing():
            now = self.clock()
            held = self._held("AND d.owner<>:owner", {"owner": owner})
            for delivery in held:
                if delivery.fence <= FREE_CLAIMS:
                    self._free(delivery, now, attempts=delivery.attempts - 1)
                else:
                    self._apart(delivery, lambda held: self._fail(held, "its poller died", 0, now))
        return len(held)

    def announce(self) -> None:
        """Let partners see every served session as alive, the way legacy clients look for it."""
        due = (
            " FROM routes r JOIN conversations c ON c.id=r.conversation_id"
            " LEFT JOIN session_status s ON s.conversation_id=r.conversation_id"
            " AND s.session_id=r.session"
            " WHERE s.last_heartbeat IS NULL OR s.last_heartbeat NOT BETWEEN :stale AND :now"
        )
        values = {"now": utc_iso(), "stale": utc_iso(-ANNOUNCED_S)}
        if not self._rows(f"SELECT 1{due} LIMIT 1", values):
            return
        with self._writing(durable=False):
            self._rows(
                "INSERT INTO session_status(conversation_id,session_id,status,last_heartbeat)"
                f" SELECT r.conversation_id, r.session, 'active', :now{due}"
                " ON CONFLICT(conversation_id,session_id)"
                " DO UPDATE SET status=excluded.status, last_heartbeat=excluded.last_heartbeat",
                values,
            )

    def claim(self, owner: str, wanted: Mapping[str, int], lease_ms: int) -> list[Delivery]:
        """Enrol what is new and claim up to `wanted[shard]` ready deliveries for each shard.

        Costs one SELECT when there is nothing to do. Messages that want no answer are left as they
        are. Claims commit without fsync: a lease need not outlive a power cut.
        """
        sight = self._look(_with_room(wanted), self.clock())
        if not (sight.fresh or sight.ready):
            self._looked(sight.newest, sight.newest)
            return []
        with self._writing(durable=False):
            taken, beyond = self._take(sight, wanted, owner, lease_ms)
        self._looked(beyond, sight.newest)
        return taken

    def settle_and_claim(
        self, outcomes: Sequence[Outcome], owner: str, wanted: Mapping[str, int], lease_ms: int
    ) -> tuple[list[Settled], list[Delivery]]:
        """Settle, and take what is then to be had, in one commit.

        It is durable when there are outcomes; without any, this is `claim`.
        """
        if not outcomes:
            return [], self.claim(owner, wanted, lease_ms)
        try:
            return self._turn(outcomes, owner, wanted, lease_ms)
        except _OF_ONE_ROW as error:
            _complain(f"settling one by one: {error}")
            return self._turn(outcomes, owner, wanted, lease_ms, apart=True)

    def _turn(
        self,
        outcomes: Sequence[Outcome],
        owner: str,
        wanted: Mapping[str, int],
        lease_ms: int,
        *,
        apart: bool = False,
    ) -> tuple[list[Settled], list[Delivery]]:
        with self._writing():
            now = self.clock()
            settled = self._settle_all(outcomes, now, apart=apart)
            sight = self._look(_with_room(wanted), now)
            taken, beyond = self._take(sight, wanted, owner, lease_ms)
        self._looked(beyond, sight.newest)
        return settled, taken

    def renew(self, leases: Iterable[tuple[int, int]], lease_ms: int) -> set[int]:
        """Extend (message_id, fence) leases; return the ids still held. Missing ids are lost."""
        held = list(leases)
        if not held:
            return set()
        with self._writing(durable=False):
            now = self.clock()
            rows = [
                self._rows(
                    "UPDATE deliveries SET lease_until=?, changed_at=?"
                    " WHERE message_id=? AND fence=? AND state='leased' RETURNING message_id",
                    (now + lease_ms, now, message_id, fence),
                )
                for message_id, fence in held
            ]
        return {row[0][0] for row in rows if row}

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        """Finish deliveries in one durable commit, each on its own merits, and promote lanes."""
        if not outcomes:
            return []
        try:
            with self._writing():
                return self._settle_all(outcomes, self.clock())
        except _OF_ONE_ROW as error:
            _complain(f"settling one by one: {error}")
            with self._writing():
                return self._settle_all(outcomes, self.clock(), apart=True)

    def reap(self) -> list[Settled]:
        """Free or bury deliveries whose lease expired, and promote any lane left without a head.

        A holder that renews first keeps its lease, however late: call `renew` before this.
        """
        self._cut_log(connection.WAL_LIMIT)
        values = {"now": self.clock(), "future": self.clock() + CLOCK_SLACK_MS}
        ((expired, moved),) = self._rows(
            "SELECT EXISTS(SELECT 1 FROM deliveries WHERE state='leased' AND lease_until<:now),"
            " EXISTS(SELECT 1 FROM deliveries WHERE state='leased' AND changed_at>:future)",
            values,
        )
        headless = self._headless()
        if not (expired or moved or headless):
            return []
        with self._writing():
            now = self.clock()
            # After the clock was set back a lease lasts its length from now on, no longer.
            self._rows(
                "UPDATE deliveries SET lease_until=:now+lease_until-changed_at, changed_at=:now"
                " WHERE state='leased' AND changed_at>:future",
                values,
            )
            late = self._held("AND d.lease_until<:now", {"now": now})
            settled = [
                ended
                for held in late
                if (ended := self._apart(held, lambda one: self._fail(one, _EXPIRED, 0, now)))
            ]
            for lane in headless:
                self._promote(lane, now)
        return settled

    def _take(
        self, sight: Sight, wanted: Mapping[str, int], owner: str, lease_ms: int
    ) -> tuple[list[Delivery], int]:
        """Claim what is ready, then enrol what is new; also return up to which id was looked."""
        now = self.clock()
        claim, room = Claim(owner, now, now + lease_ms), dict(wanted)
        taken: list[Delivery] = []
        for shard in _with_room(wanted) if sight.ready else ():
            claimed = self._claim(shard, room[shard], claim)
            room[shard] -= len(claimed)
            taken += claimed
        if not sight.fresh:
            return taken, sight.newest
        leased, beyond = self._enrol(sight.newest, room, claim)
        return taken + leased, beyond

    def _claim(self, shard: str, count: int, claim: Claim) -> list[Delivery]:
        rows = self._rows(
            _READY,
            {"shard": shard, "count": count, "now": claim.now, "max": self.limits.max_message},
        )
        claimed = [
            Delivery(
                message_id=message_id,
                conversation=conversation,
                session=session,
                shard=shard,
                lane=lane,
                text=(readable(text) or "") if small else None,
                metadata=readable(metadata),
                fence=fence + 1,
                attempt=attempts + 1,
                enrolled_at=enrolled,
            )
            for message_id, conversation, session, lane, fence, attempts, enrolled, small, text,
            metadata in rows
        ]  # fmt: skip
        # One by one: `IN (SELECT …)` costs 200 us where the number costs 30, and claims are few.
        self._many(
            "UPDATE deliveries SET state='leased', attempts=attempts+1, fence=fence+1,"
            " owner=?, lease_until=?, changed_at=? WHERE message_id=?",
            [(claim.owner, claim.until, claim.now, one.message_id) for one in claimed],
        )
        return claimed

    def _held(self, which: str, values: dict[str, Any]) -> list[_Held]:
        # The plus keeps the planner from walking the table in its order instead of using d_lease.
        rows = self._rows(
            f"{_HELD} {which} ORDER BY +d.message_id",
            {**values, "max": self.limits.max_message},
        )
        return [_Held(*row) for row in rows]

    def _settle_all(
        self, outcomes: Sequence[Outcome], now: int, *, apart: bool = False
    ) -> list[Settled]:
        if apart:
            return [self._settle_apart(outcome, now) for outcome in outcomes]
        settled = [self._settle(outcome, now) for outcome in outcomes]
        self._charge(outcomes, settled, now)
        return settled

    def _settle_apart(self, outcome: Outcome, now: int) -> Settled:
        """Settle one of which the store may not take what it says: then its error answer says so.

        What cannot be settled even so keeps its lease until that expires, and holds up nobody.
        """

        def settle(said: Outcome) -> Settled:
            [settled] = self._settle_all([said], now)
            return settled

        unwritable = Failed(
            message_id=outcome.message_id,
            fence=outcome.fence,
            error="the answer cannot be stored in the bridge",
            wait_ms=0,
            permanent=True,
            usage=outcome.usage,
        )
        settled = self._apart(outcome, settle) or self._apart(unwritable, settle)
        return settled or Settled(message_id=outcome.message_id, state="lost")

    def _apart(self, one: _One, settle: Callable[[_One], Settled]) -> Settled | None:
        """Settle one in a transaction within the transaction; None when nothing came of it."""
        self._rows("SAVEPOINT one")
        try:
            settled = settle(one)
        except _OF_ONE_ROW as error:
            self._rows("ROLLBACK TO one")
            self._rows("RELEASE one")
            _complain(f"question {one.message_id} cannot be settled: {error}")
            return None
        self._rows("RELEASE one")
        return settled

    def _settle(self, outcome: Outcome, now: int) -> Settled:
        held = self._held(
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
                return self._bury(held[0], outcome.error, outcome.error, now, outcome.usage)
            case Failed():
                return self._fail(held[0], outcome.error, outcome.wait_ms, now, outcome.usage)
            case Released():
                return self._free(held[0], now, attempts=held[0].attempts - 1)

    def _fail(
        self, held: _Held, error: str, wait_ms: int, now: int, usage: Usage | None = None
    ) -> Settled:
        if held.attempts < self.limits.max_attempts:
            return self._free(held, now, attempts=held.attempts, wait_ms=wait_ms, error=error)
        times = "1 attempt" if held.attempts == 1 else f"{held.attempts} attempts"
        return self._bury(held, f"No answer after {times}: {error}", error, now, usage)

    def _free(
        self, held: _Held, now: int, *, attempts: int, wait_ms: int = 0, error: str | None = None
    ) -> Settled:
        self._rows(
            "UPDATE deliveries SET state='ready', owner=NULL, lease_until=NULL, attempts=?,"
            " not_before=?, changed_at=?, last_error=coalesce(?,last_error) WHERE message_id=?",
            (attempts, now + wait_ms, now, error and self._clean(error), held.message_id),
        )
        return Settled(message_id=held.message_id, state="ready", waiter=held.waiter)

    def _bury(self, held: _Held, text: str, error: str, now: int, usage: Usage | None) -> Settled:
        return self._answer(held, Answer(text=text, error=True), now, error=error, usage=usage)

    def _answer(
        self,
        held: _Held,
        answer: Answer,
        now: int,
        *,
        seconds: float = 0.0,
        error: str | None = None,
        usage: Usage | None = None,
    ) -> Settled:
        """Write the one answer and end the delivery: done, or dead when there is an `error`."""
        state = "done" if error is None else "dead"
        text, metadata = write_answer(
            held.question.decode("utf-8", "replace"),
            Answer(text=self._clean(answer.text), sources=answer.sources, error=answer.error),
            message_id=held.message_id,
            shard=held.shard,
            attempt=held.attempts,
            seconds=seconds,
            usage=to_builtins(usage),
        )
        self._rows(
            "UPDATE deliveries SET state=?, owner=NULL, lease_until=NULL, changed_at=?,"
            " settled_at=?, last_error=coalesce(?,last_error) WHERE message_id=?",
            (state, now, now, error and self._clean(error), held.message_id),
        )
        recipient = held.sender or other_session(held.session)
        answer_id = self._insert(
            held.conversation, held.session, recipient, storable(text), metadata
        )
        self._rows("INSERT INTO answers VALUES(?,?,?)", (held.message_id, answer_id, held.fence))
        facts = {
            "message_id": held.message_id, "answer_id": answer_id, "state": state,
            "shard": held.shard, "attempts": held.attempts,
        }  # fmt: skip
        self._log(held.conversation, held.session, "query_answered", to_json(facts))
        self._promote(held.lane, now)
        return Settled(
            message_id=held.message_id, state=state, answer_id=answer_id, waiter=held.waiter
        )

    def _clean(self, text: str) -> str:
        return storable(redact(text) if self.limits.redact else text)

    def _headless(self) -> list[str]:
        """Return lanes that wait without a head; there are none unless another program deleted it.

        Jumps from lane to lane in the index: a lane of 10,000 queued costs one step.
        """
        rows = self._rows(
            "WITH RECURSIVE l(lane) AS (SELECT min(lane) FROM deliveries WHERE state='queued'"
            " UNION ALL SELECT (SELECT min(lane) FROM deliveries WHERE state='queued'"
            " AND lane>l.lane) FROM l WHERE l.lane IS NOT NULL) SELECT lane FROM l"
            " WHERE lane IS NOT NULL AND NOT EXISTS(SELECT 1 FROM deliveries d"
            f" WHERE d.lane=l.lane AND {HEAD})"
        )
        return [lane for (lane,) in rows]


def _with_room(wanted: Mapping[str, int]) -> list[str]:
    return [shard for shard, count in wanted.items() if count > 0]


def _complain(words: str) -> None:
    import logging  # only now, because an `ask`, which settles nothing, does without

    logging.getLogger(__name__).error("%s", words)
