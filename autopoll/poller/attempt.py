"""One attempt to have a question answered, and when something is to be done about it."""

from dataclasses import dataclass
from math import inf

from autopoll.bridge.attempt_record import AttemptTimes
from autopoll.bridge.records import Delivery, QueryState

ANNOUNCE_S = 0.05  # an answer within this needs no word that work has begun
# From CANCEL to the end of the link to a worker that does not heed it. The watchdog sees the same
# deadline, takes a few seconds, and has killed a worker that hangs by then.
CANCEL_GRACE_S = 10.0


@dataclass(slots=True)
class Attempt:
    """One delivery that was sent to a worker; times are of the loop's clock, in seconds."""

    delivery: Delivery
    worker: str
    pid: int  # of the worker
    claimed_at: float
    sent_at: float
    limit: float  # how long a worker may take once it has begun
    canary: bool = False
    begun_at: float | None = None  # when the first sign of work came
    announced: bool = False  # the asker knows that it has begun
    piece_at: float | None = None  # of the answer, the first
    cancelled_at: float | None = None
    lease_lost: bool = False  # then whatever comes of it is nobody's

    def times(self, now: float, host: str | None, home: str | None) -> AttemptTimes:
        """Return who made it, and when, as it is kept."""
        return AttemptTimes(
            worker=self.worker,
            pid=self.pid,
            claimed=self.claimed_at,
            sent=self.sent_at,
            begun=self.begun_at,
            piece=self.piece_at,
            ended=now,
            host=host,
            home=home,
        )

    @property
    def message_id(self) -> int:
        """The question."""
        return self.delivery.message_id

    @property
    def lease_end(self) -> float:
        """The moment from which the lease is no longer renewed, whatever hangs."""
        if self.cancelled_at is not None:
            return self.cancelled_at + CANCEL_GRACE_S
        return (self.begun_at or self.sent_at) + self.limit + CANCEL_GRACE_S

    @property
    def due(self) -> float:
        """The moment to announce it, or to cancel it, or to give up its worker's link."""
        if self.cancelled_at is not None:
            return self.lease_end
        if self.begun_at is None:
            return inf
        return self.begun_at + (self.limit if self.announced else min(ANNOUNCE_S, self.limit))

    def is_overdue(self, now: float) -> bool:
        """Return whether it has had all of its time."""
        return self.begun_at is not None and now >= self.begun_at + self.limit


def leased_state(delivery: Delivery, last_error: str | None) -> QueryState:
    """Return how a question stands on which a worker works."""
    return QueryState(
        message_id=delivery.message_id,
        conversation=delivery.conversation,
        session=delivery.session,
        state="leased",
        shard=delivery.shard,
        attempts=delivery.attempt,
        last_error=last_error,
        answer=None,
        enrolled_at=delivery.enrolled_at,
        settled_at=None,
    )
