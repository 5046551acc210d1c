"""What every engine does alike of the DeliveryStore; how it claims is its own."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from autopoll.bridge.queue_records import Cancelled
from autopoll.bridge.records import (
    Arrival,
    BridgeLimits,
    CommittedTurn,
    Delivery,
    Outcome,
    SentMessage,
    Settled,
    Stored,
)
from autopoll.bridge.sql.arrivals import Arrivals, CheckedArrival, conversations_of
from autopoll.bridge.sql.cancellation import Cancellation
from autopoll.bridge.sql.costs import Costs
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.held_delivery import HeldDelivery
from autopoll.bridge.sql.lanes import Lanes
from autopoll.bridge.sql.placement import Lease
from autopoll.bridge.sql.pollers import Pollers
from autopoll.bridge.sql.refused_rows import together_or_each
from autopoll.bridge.sql.settlement import Settlement
from autopoll.errors import AutopollError, BridgeBusy

_ENROL_S = 2.0  # of a call, within which it is to be over


class Enroller(Protocol):
    """The part of an engine that makes deliveries of messages."""

    def admit(
        self, checked: Sequence[CheckedArrival], lease: Lease, *, in_turn: bool
    ) -> tuple[list[int], list[Delivery]]:
        """Store questions that arrive with their deliveries; return their numbers and the leased.

        One waits unread, to be enrolled later, where no shard serves the session, or where it is
        not `in_turn`, and something that came before it is not enrolled yet.
        """


class Claimed(NamedTuple):
    """What a transaction has claimed of what was in the store before it."""

    deliveries: list[Delivery]
    all_enrolled: bool  # nothing that came before is left to be enrolled
    committed: Callable[[], None]  # to be called after the commit


class SqlDeliveries(ABC):
    """Turns, settles, and what a poller says of itself; used by one poller."""

    def __init__(
        self, db: Database, limits: BridgeLimits, costs: Costs, lanes: Lanes, enroller: Enroller
    ) -> None:
        self._db = db
        self._max_message = limits.max_message
        self._lanes = lanes
        self._arrivals = Arrivals(db, limits)
        self._enroller = enroller
        self._pollers = Pollers(db)
        self._settlement = Settlement(db, limits, lanes, costs)
        self._cancellation = Cancellation(db, self._settlement)

    @abstractmethod
    def claim(self, owner: str, wanted: Mapping[str, int], lease_ms: int) -> list[Delivery]: ...

    @abstractmethod
    def _claim(self, lease: Lease) -> Claimed:
        """Claim what there is room for, within a transaction."""

    @abstractmethod
    def _enrol(self) -> bool:
        """Enrol some of what is new, claiming nothing; return whether more may be left."""

    def cancel(self, message_ids: Sequence[int], words: str) -> list[Cancelled]:
        end = time.monotonic() + _ENROL_S
        while self._unenrolled(message_ids) and self._enrol():
            if time.monotonic() > end:
                raise BridgeBusy("much is to be enrolled before these questions", "Try it again.")
        with self._db.writing():
            self._db.lock_conversations(deliveries=set(message_ids))
            return self._cancellation.cancel(message_ids, words, self._db.clock())

    def held(self, leases: Iterable[tuple[int, int]], owner: str) -> set[int]:
        known = dict(leases)
        rows = self._db.rows(
            "SELECT message_id, fence FROM deliveries WHERE state='leased' AND owner=?"
            f" AND message_id IN ({self._db.dialect.numbers.format('?')})",
            (owner, json.dumps([*known])),
        )
        return {number for number, fence in rows if known[number] == fence}

    def _unenrolled(self, message_ids: Sequence[int]) -> bool:
        """Tell whether there are messages among these that have no delivery."""
        rows = self._db.rows(
            f"SELECT 1 FROM messages m WHERE m.id IN ({self._db.dialect.numbers.format('?')})"
            " AND NOT EXISTS(SELECT 1 FROM deliveries d WHERE d.message_id=m.id) LIMIT 1",
            (json.dumps([*message_ids]),),
        )
        return bool(rows)

    def set_shards(self, owner: str, shards: Sequence[str]) -> None:
        with self._db.writing(durable=False):
            self._pollers.set_shards(owner, shards)

    def leave(self, owner: str) -> None:
        with self._db.writing(durable=False):
            self._pollers.leave(owner, self._db.clock())

    def settle(self, outcomes: Sequence[Outcome], owner: str) -> list[Settled]:
        def commit(together: bool) -> list[Settled]:
            with self._db.writing():
                return self._settle(outcomes, owner, together)

        return together_or_each(commit) if outcomes else []

    def commit_turn(
        self,
        arrivals: Sequence[Arrival],
        outcomes: Sequence[Outcome],
        owner: str,
        wanted: Mapping[str, int],
        lease_ms: int,
    ) -> CommittedTurn:
        if not (arrivals or outcomes):
            return CommittedTurn([], [], self.claim(owner, wanted, lease_ms))
        checked = self._arrivals.check(arrivals)

        def commit(together: bool) -> CommittedTurn:
            with self._db.writing():
                # For all that follows: what waits for locks twice may wait for itself.
                self._db.lock_conversations(
                    conversations_of(checked), {outcome.message_id for outcome in outcomes}
                )
                settled = self._settle(outcomes, owner, together)
                lease = self._lease(owner, wanted, lease_ms)
                claimed = self._claim(lease)
                stored, leased = self._admit(checked, lease, together, in_turn=claimed.all_enrolled)
            claimed.committed()
            return CommittedTurn(stored, settled, claimed.deliveries + leased)

        return together_or_each(commit)

    def release_unconfirmed(self, owner: str, held: Iterable[tuple[int, int]]) -> int:
        known = set(held)
        with self._db.writing(durable=False):
            now = self._db.clock()
            unconfirmed = [
                one
                for one in self._locked("d.owner=:owner", {"owner": owner})
                if (one.message_id, one.fence) not in known
            ]
            self._settlement.release(unconfirmed, now)
        return len(unconfirmed)

    def _locked(self, which: str, values: Mapping[str, str]) -> list[HeldDelivery]:
        """Return leased deliveries, with their conversations locked: their lanes are to go on."""
        rows = self._db.rows(
            f"SELECT d.message_id FROM deliveries d WHERE d.state='leased' AND {which}", values
        )
        self._db.lock_conversations(deliveries=[number for (number,) in rows])
        return self._settlement.held(f"AND {which}", dict(values))

    def _lease(self, owner: str, wanted: Mapping[str, int], lease_ms: int) -> Lease:
        now = self._db.clock()
        return Lease(owner, now, now + lease_ms, dict(wanted))

    def _settle(self, outcomes: Sequence[Outcome], owner: str, together: bool) -> list[Settled]:
        if not outcomes:
            return []
        settlement = self._settlement
        settle = settlement.settle if together else settlement.settle_one_by_one
        return settle(outcomes, owner, self._db.clock())

    def _admit(
        self,
        checked: Sequence[CheckedArrival | AutopollError],
        lease: Lease,
        together: bool,
        *,
        in_turn: bool,
    ) -> tuple[list[Stored], list[Delivery]]:
        """Store and enrol what has arrived; also return what was leased of it."""
        if not checked:
            return [], []
        leased: dict[int, Delivery] = {}

        def insert(new: Sequence[CheckedArrival]) -> list[int]:
            numbers, deliveries = self._enroller.admit(new, lease, in_turn=in_turn)
            for number in numbers:
                leased.pop(number, None)  # of one that the store has refused: the number is free
            leased.update({each.message_id: each for each in deliveries})
            return numbers

        store = self._arrivals.store if together else self._arrivals.store_one_by_one
        stored = store(checked, insert)
        fresh = [one.id for one in stored if isinstance(one, SentMessage) and one.fresh]
        return stored, [leased[number] for number in fresh if number in leased]
