"""What every engine of the bridge does with deliveries; the rest of it is in `protocols`.

A delivery is the way of one message to its answer:
    queued -> ready -> leased -> done
                 ^        |----> ready   (retry, expiry, release)
                 |        `----> dead    (an error answer is written with it)

Only the head of a lane is `ready`; the rest of the lane waits as `queued`. A lease is held by an
owner, a random id of one start of a poller, under a fence, a number that grows with every claim. A
settle under an old fence or by another owner is refused, so of two instances that were asked the
same question only one can answer. The owner counts too, because a server that fails may lose the
last claims and hand out their fences once more.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from autopoll.bridge.queue_records import Cancelled
from autopoll.bridge.records import (
    Answerer,
    Arrival,
    CommittedTurn,
    Delivery,
    Outcome,
    Settled,
)


class DeliveryStore(Protocol):
    """Deliveries: claimed under a lease, renewed, settled. For the one answerer of a home."""

    def take_over(self, answerer: Answerer, lease_ms: int) -> int:
        """Become the one answerer of a home, free what its earlier owners held; return how many.

        What owners of other homes hold ends by its expiry, as they may live; in an embedded store,
        which has one answerer, it is freed at once, too. Holds until the bridge is closed. Raises
        AlreadyRunning in an embedded store while another process is the answerer, of whatever home.
        In others, while the last poller of this home is alive and has another host or folder: one
        of the two homes is a copy. The death of an owner costs a query no attempt up to 20 claims,
        so that a query which kills its poller ends as a dead letter all the same.
        """

    def set_shards(self, owner: str, shards: Sequence[str]) -> None:
        """Show other shards for an owner that has taken over."""

    def leave(self, owner: str) -> None:
        """Show that an owner has ended, so that its home need not be waited for elsewhere."""

    def claim(self, owner: str, wanted: Mapping[str, int], lease_ms: int) -> list[Delivery]:
        """Enrol what is new and claim up to `wanted[shard]` ready deliveries for each shard.

        A message that is committed after one with a greater number is enrolled all the same. One or
        two SELECTs when there is nothing to do. What wants no answer is left as it is. The
        commit is not synced to disk: a lease need not outlive a power cut.
        """

    def settle(self, outcomes: Sequence[Outcome], owner: str) -> list[Settled]:
        """Finish deliveries in one durable commit, each on its own merits, and promote lanes.

        Returns one item for each outcome, in order: `lost` where the owner does not hold the lease
        under that fence. Usage is added to the day of the shard, also when the lease was lost:
        spent is spent. An outcome that the store cannot hold is settled as a permanent failure, and
        does not keep the others from being settled.

        May be repeated where nobody knows whether it was committed. A lease that the owner has
        settled before is reported as what became of it, until the question is claimed again;
        nothing is answered or charged twice.
        """

    def commit_turn(
        self,
        arrivals: Sequence[Arrival],
        outcomes: Sequence[Outcome],
        owner: str,
        wanted: Mapping[str, int],
        lease_ms: int,
    ) -> CommittedTurn:
        """Do `settle`, `claim` and `MessageStore.store` in one durable commit.

        What arrives is enrolled with it, behind what is new in the store, and leased where it is
        first in its lane and there is room. Without arrivals and outcomes, do `claim`.
        """

    def renew(self, leases: Iterable[tuple[int, int]], owner: str, lease_ms: int) -> set[int]:
        """Extend (message_id, fence) leases of an owner; return the ids still held.

        Missing ids are lost. Shows that the owner lives for as long, also without leases.
        """

    def held(self, leases: Iterable[tuple[int, int]], owner: str) -> set[int]:
        """Return the ids of (message_id, fence) leases that an owner still holds; one SELECT."""

    def cancel(self, message_ids: Sequence[int], words: str) -> list[Cancelled]:
        """Answer questions with an error whose text is `words`, in one durable commit.

        Returns one item for each, in order. What is new is enrolled first. What is under way is
        lost to its owner. What waits behind others of its conversation is claimed no more, and is
        answered in its turn, by the settle that ends what was before it. A cancelled question is no
        dead letter. May be repeated; for an operator as for the answerer.
        """

    def release_unconfirmed(self, owner: str, held: Iterable[tuple[int, int]]) -> int:
        """Release what is leased to the owner beyond the (message_id, fence) leases `held`.

        For an owner that does not know whether its last claim was committed. Returns how many.
        """

    def reap(self) -> list[Settled]:
        """Settle as failed those whose lease expired, if not renewed first; mend headless lanes.

        Homes that have not been alive for a week are shown no more, until they beat again.
        """
