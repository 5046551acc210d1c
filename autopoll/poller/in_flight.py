"""A delivery on its way through a worker, and when something is to be done about it."""

from dataclasses import dataclass
from math import inf

from autopoll.bridge.records import Delivery
from autopoll.message import read_envelope

TELL_S = 0.05  # an answer within this needs no word that work has begun
# From CANCEL to the end of the link to a worker that does not heed it. The watchdog sees the same
# deadline, takes a few seconds, and has killed by then whoever hangs.
CANCEL_GRACE_S = 10.0


@dataclass(slots=True)
class Flight:
    """One delivery in the air; times are of the loop's clock, in seconds."""

    delivery: Delivery
    worker: str
    sent: float
    limit: float  # how long an instance may take once it has begun
    canary: bool = False
    begun: float | None = None  # when the first sign of work came
    told: bool = False  # that it has begun
    given_up: float | None = None  # when the worker was told to let go of it
    lost: bool = False  # its lease: whatever comes of it is nobody's

    @property
    def message_id(self) -> int:
        """The question."""
        return self.delivery.message_id

    @property
    def waiter(self) -> str | None:
        """The bell of whoever asked."""
        return read_envelope(self.delivery.metadata).waiter

    @property
    def lease_end(self) -> float:
        """The moment from which the lease is no longer renewed, whoever may be hung."""
        if self.given_up is not None:
            return self.given_up + CANCEL_GRACE_S
        return (self.begun or self.sent) + self.limit + CANCEL_GRACE_S

    @property
    def due(self) -> float:
        """The moment to tell whoever asked, or to give it up, or to give up its worker's link."""
        if self.given_up is not None:
            return self.lease_end
        if self.begun is None:
            return inf
        return self.begun + (self.limit if self.told else min(TELL_S, self.limit))

    def is_late(self, now: float) -> bool:
        """Tell whether it has had all of its time."""
        return self.begun is not None and now >= self.begun + self.limit
