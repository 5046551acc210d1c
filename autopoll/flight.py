"""A delivery on its way through a worker, and when something is to be done about it."""

from dataclasses import dataclass
from math import inf

from autopoll.bridge.contract import Delivery
from autopoll.message import read_envelope

TELL_S = 0.05  # an answer within this needs no word that work has begun
CANCEL_GRACE_S = 5.0


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
    given_up: bool = False

    @property
    def waiter(self) -> str | None:
        """The bell of whoever asked."""
        return read_envelope(self.delivery.metadata).waiter

    @property
    def lease_end(self) -> float:
        """The moment from which the lease is no longer renewed, whoever may be hung."""
        return (self.begun or self.sent) + self.limit + CANCEL_GRACE_S

    @property
    def due(self) -> float:
        """The moment to tell whoever asked, or else to give it up; `inf` when neither is left."""
        if self.begun is None or self.given_up:
            return inf
        return self.begun + (self.limit if self.told else min(TELL_S, self.limit))

    def is_late(self, now: float) -> bool:
        """Tell whether it has had all of its time."""
        return self.begun is not None and now >= self.begun + self.limit
