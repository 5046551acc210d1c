"""Where a new delivery is placed: in which lane, and whether it is leased at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from autopoll.bridge.records import Delivery
from autopoll.bridge.sql.arrivals import CheckedArrival
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.lanes import own_lane
from autopoll.bridge.sql.rows import insert_messages
from autopoll.message import Envelope, read_envelope


class Lease(NamedTuple):
    """For whom something is leased, and until when; `room` is how much more for each shard."""

    owner: str
    now: int
    until: int
    room: dict[str, int]


class Enrollable(NamedTuple):
    """A message that becomes a delivery; its `text` is None when it is over the limit."""

    message_id: int
    conversation: str
    session: str
    shard: str
    text: str | None
    metadata: str | None

    def lane(self, envelope: Envelope) -> str:
        """Return its conversation's lane; an independent question has one without a slash."""
        if envelope.lane in ("own", "canary"):
            canary = envelope.canary or envelope.lane == "canary"
            return own_lane(self.message_id, canary=canary)
        return f"{self.conversation}/{self.session}"


def insert_arrivals(
    db: Database,
    checked: Sequence[CheckedArrival],
    shards: Mapping[tuple[str, str], str | None],
) -> tuple[list[int], list[tuple[Enrollable, str]]]:
    """Store questions that arrive; return their numbers, and what is to be placed, with its lane.

    `shards` tells of (conversation, session) which shard is to answer now; None to wait unread.
    """
    rows = [
        each.message(read=shards[each.arrival.conversation, each.recipient] is not None)
        for each in checked
    ]
    numbers = insert_messages(db, rows)
    new = []
    for number, (conversation, _, session, text, metadata, _) in zip(numbers, rows, strict=True):
        if (shard := shards[conversation, session]) is not None:
            found = Enrollable(number, conversation, session, shard, text, metadata)
            new.append((found, found.lane(read_envelope(metadata))))
    return numbers, new


class NewDelivery(NamedTuple):
    """A row to add to the deliveries."""

    message_id: int
    conversation: str
    session: str
    shard: str
    lane: str
    now: int
    state: str
    owner: str | None
    until: int | None
    attempts: int  # of which each has raised the fence, too


class Placement:
    """Places the messages of one transaction, in their order.

    `is_free` tells of a lane whether no delivery that is written waits in it.
    """

    def __init__(self, lease: Lease, is_free: Callable[[str], bool]) -> None:
        self._lease = lease
        self._is_free = is_free
        self._busy: set[str] = set()  # lanes of rows that are not written yet
        self.rows: list[NewDelivery] = []
        self.leased: list[Delivery] = []

    def add(self, found: Enrollable, lane: str) -> None:
        """Add the row of a message, and the delivery where it is leased at once."""
        lease = self._lease
        place = (found.message_id, found.conversation, found.session, found.shard, lane, lease.now)
        if lane in self._busy or not self._is_free(lane):
            self.rows.append(NewDelivery(*place, "queued", None, None, 0))
        elif lease.room.get(found.shard, 0) > 0:
            self.rows.append(NewDelivery(*place, "leased", lease.owner, lease.until, 1))
            lease.room[found.shard] -= 1
            self.leased.append(
                Delivery(**found._asdict(), lane=lane, fence=1, attempt=1, enrolled_at=lease.now)
            )
        else:
            self.rows.append(NewDelivery(*place, "ready", None, None, 0))
        self._busy.add(lane)


def with_room(wanted: Mapping[str, int]) -> list[str]:
    """Return the shards for which more is wanted."""
    return [shard for shard, count in wanted.items() if count > 0]
