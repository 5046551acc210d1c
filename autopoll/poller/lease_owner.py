"""The owner of this poller's leases: claims, settles and renews them under one random id."""

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence

from autopoll import __version__
from autopoll.bridge.delivery_protocol import DeliveryStore
from autopoll.bridge.records import Answerer, Arrival, CommittedTurn, Outcome, Settled
from autopoll.errors import BridgeUnavailable
from autopoll.home.home import Home
from autopoll.home.identity import identity_of
from autopoll.poller.in_flight import InFlight

# A server whose client is gone ends the transaction within this time, or never.
_LATE_S = 10.0
_CHECK_S = 0.5

log = logging.getLogger(__name__)


class LeaseOwner:
    """What this poller holds in the store; each method raises BridgeError, to be called again.

    Whatever is not known to be committed is repeated: an outcome is kept until it is settled, and
    after a claim that failed what was leased by it all the same is given back.

    A store that could not be reached is first sent a renewal of all leases. For the length of one
    it reaps none: the other homes may not have been able to renew theirs either. What another home
    has taken meanwhile is lost by the renewal or the settle, and nobody is given our answer to it.

    Where a method calls the store more than once, `beat` is called in between.
    """

    def __init__(
        self, deliveries: DeliveryStore, in_flight: InFlight, beat: Callable[[], None]
    ) -> None:
        self.id = secrets.token_hex(8)
        self._deliveries = deliveries
        self._in_flight = in_flight
        self._beat = beat
        self._unsettled: list[Outcome] = []
        self._claim_failed = False
        self._late_until = 0.0  # a claim that failed may still be committed until this moment
        self._was_away = False  # the store, since the last renewal
        self._reap_from = 0.0  # on the monotonic clock, in seconds
        self._check_from = 0.0
        self._shards: list[str] = []  # that the store shows for it
        self.shards: list[str] = []  # that it serves

    def go_on(self, owner: str) -> None:
        """Be the owner that the program before was; to be called before `take_over`."""
        self.id = owner
        self._claim_failed = True  # what it has claimed, and not handed over, is given back

    @property
    def has_unsettled(self) -> bool:
        """Whether outcomes wait to be settled."""
        return bool(self._unsettled)

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome for the next settle."""
        self._unsettled.append(outcome)

    def take_over(self, home: Home, shards: Iterable[str], *, shared: bool = False) -> int:
        """Become the answerer of the home; return how many questions it freed of earlier ones.

        Of a `shared` store nobody here knows whether it was away for the others.
        """
        if shared:
            self._reap_from = self._lease_from_now()
        self.shards = self._shards = list(shards)
        answerer = Answerer(
            owner=self.id,
            home=identity_of(home),
            host=os.uname().nodename,
            folder=str(home.root),
            version=__version__,
            shards=self.shards,
        )
        return self._deliveries.take_over(answerer, self._in_flight.lease_ms)

    def leave(self) -> None:
        """Show that the answerer has ended."""
        self._deliveries.leave(self.id)

    def store_was_away(self) -> None:
        """Renew before anything else when it can be reached again.

        To be called whatever could not be done there, by whomever.
        """
        self._was_away = True

    def commit_turn(self, arrivals: Sequence[Arrival], room: dict[str, int]) -> CommittedTurn:
        """Store what arrived, settle what came back, and claim what there is room for."""
        try:
            if self._was_away:
                self._renew_all()
                self._beat()
            if self._claim_failed:
                self._release_unconfirmed()
                self._beat()
            self._claim_failed = True
            turn = self._deliveries.commit_turn(
                arrivals, self._unsettled, self.id, room, self._in_flight.lease_ms
            )
        except BridgeUnavailable:
            self._late_until = time.monotonic() + _LATE_S
            raise
        self._claim_failed = False
        self._unsettled.clear()
        return turn

    def settle(self) -> list[Settled]:
        """Settle what came back, and claim nothing."""
        if self._was_away:
            self._renew_all()
            self._beat()
        settled = self._deliveries.settle(self._unsettled, self.id)
        self._unsettled.clear()
        return settled

    def check(self) -> None:
        """Cancel what was taken away of what is in flight; twice a second at most."""
        if time.monotonic() >= self._check_from:
            self._check_from = time.monotonic() + _CHECK_S
            self._in_flight.check_leases(self._deliveries, self.id)

    def renew(self) -> list[Settled]:
        """Renew what is in flight or unsettled; return what became of leases that have expired.

        After a long outage the reap would free, to be asked again, what is answered already. Shows
        the shards that it serves when they have changed.
        """
        if self._shards != self.shards:
            self._deliveries.set_shards(self.id, self.shards)
            self._shards = self.shards
            self._beat()
        self._renew_all()
        self._beat()
        if self._late_until:
            self._release_late()
        if time.monotonic() < self._reap_from:
            return []
        return self._in_flight.reap(self._deliveries)

    def _renew_all(self) -> None:
        self._in_flight.renew_leases(self._deliveries, self.id, self._unsettled_leases())
        if self._was_away:
            self._was_away = False
            self._reap_from = self._lease_from_now()

    def _lease_from_now(self) -> float:
        return time.monotonic() + self._in_flight.lease_ms / 1000

    def _release_unconfirmed(self) -> None:
        held = self._in_flight.leases() + self._unsettled_leases()
        if freed := self._deliveries.release_unconfirmed(self.id, held):
            log.warning("gave back %d questions whose claim was not confirmed", freed)

    def _release_late(self) -> None:
        """Release what a server has committed only after it was taken for lost."""
        over = time.monotonic() > self._late_until
        self._release_unconfirmed()
        self._beat()
        if over:
            self._late_until = 0.0

    def _unsettled_leases(self) -> list[tuple[int, int]]:
        return [(outcome.message_id, outcome.fence) for outcome in self._unsettled]
