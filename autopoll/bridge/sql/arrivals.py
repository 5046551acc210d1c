"""Messages that are stored once, each on its own merits, under the write lock of the caller."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from autopoll.bridge.records import Arrival, BridgeLimits, SentMessage, Stored
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.idempotency import IdempotencyKeys
from autopoll.bridge.sql.message_checks import MessageChecks
from autopoll.bridge.sql.rate_limit import RateLimiter
from autopoll.bridge.sql.refused_rows import in_savepoint
from autopoll.bridge.sql.rows import MessageRow, other_session
from autopoll.errors import AutopollError, NotFound, RateLimited, UsageError

_HEAD = 100  # characters of a text within which its query_id begins and ends


class CheckedArrival(NamedTuple):
    """A question as it will be stored."""

    arrival: Arrival
    recipient: str
    text: str
    metadata: str | None

    def message(self, *, read: bool = False) -> MessageRow:
        """Return the message to add."""
        conversation, sender = self.arrival.conversation, self.arrival.session
        return MessageRow(conversation, sender, self.recipient, self.text, self.metadata, read)


def conversations_of(checked: Iterable[CheckedArrival | AutopollError]) -> set[str]:
    """Return the conversations of questions that are not refused."""
    return {one.arrival.conversation for one in checked if isinstance(one, CheckedArrival)}


# Stores questions that are new, and returns their numbers.
Insert = Callable[[Sequence[CheckedArrival]], Sequence[int]]


class Arrivals:
    """Stores questions within the transaction of its caller."""

    def __init__(self, db: Database, limits: BridgeLimits) -> None:
        self._db = db
        self._checks = MessageChecks(limits)
        self._begins = db.dialect.contains.format("substr(CAST(message AS TEXT),1,?)", "?")
        self._rate = RateLimiter(db, limits)
        self._keys = IdempotencyKeys(db)

    def check(self, arrivals: Sequence[Arrival]) -> list[CheckedArrival | AutopollError]:
        """Return each as it will be stored, or why it is refused; before the transaction."""
        metadata: dict[str | None, str | None] = {}  # checked: most have the same
        return [self._check(each, metadata) for each in arrivals]

    def store(
        self, checked: Sequence[CheckedArrival | AutopollError], insert: Insert
    ) -> list[Stored]:
        """Store what was not refused, in its order."""
        self._db.lock_conversations(conversations_of(checked))
        paid = self._pay_together(checked)
        stored: list[Stored] = []
        together: list[CheckedArrival] = []  # after what is `stored`
        for place, each in enumerate(checked):
            if isinstance(each, CheckedArrival) and place in paid:
                together.append(each)
                continue
            stored += _insert(together, insert)
            together = []
            stored.append(self._store(each, insert) if isinstance(each, CheckedArrival) else each)
        return stored + _insert(together, insert)

    def store_one_by_one(
        self, checked: Sequence[CheckedArrival | AutopollError], insert: Insert
    ) -> list[Stored]:
        """Store questions of which the store may refuse a row, each in a savepoint of its own."""
        self._db.lock_conversations(conversations_of(checked))
        return [
            self._store_or_refuse(each, insert) if isinstance(each, CheckedArrival) else each
            for each in checked
        ]

    def _check(
        self, arrival: Arrival, metadata: dict[str | None, str | None]
    ) -> CheckedArrival | AutopollError:
        try:
            if arrival.metadata not in metadata:
                metadata[arrival.metadata] = self._checks.metadata(arrival.metadata)
            recipient = other_session(arrival.session)
            text = self._checks.text(arrival.text)
            unnamed = len(arrival.query_id) < 8 or arrival.query_id not in text[:_HEAD]
            if unnamed and (arrival.query_id or arrival.key is None):
                raise UsageError("the question does not begin with its query_id")
            return CheckedArrival(arrival, recipient, text, metadata[arrival.metadata])
        except UsageError as error:
            return error

    def _pay_together(self, checked: Sequence[CheckedArrival | AutopollError]) -> set[int]:
        """Charge the new questions of each session at once; return the places of what is paid."""
        places: dict[tuple[str, str], list[int]] = defaultdict(list)
        for place, each in enumerate(checked):
            if isinstance(each, CheckedArrival) and each.arrival.is_new():
                places[each.arrival.conversation, each.arrival.session].append(place)
        paid: set[int] = set()
        for session, those in places.items():
            try:
                self._rate.spend(*session, len(those))
                paid.update(those)
            except (NotFound, RateLimited, UsageError):  # each learns by itself why
                continue
        return paid

    def _store(self, checked: CheckedArrival, insert: Insert) -> Stored:
        arrival = checked.arrival
        known = self._find(arrival) if arrival.query_id and arrival.may_be_stored() else None
        try:
            if known is None and arrival.key:
                now = self._db.clock()
                known = self._keys.message_id(arrival.key, now)
            if known is not None:
                return SentMessage(id=known, fresh=False)
            self._rate.spend(arrival.conversation, arrival.session, 1)
        except (NotFound, RateLimited, UsageError) as error:
            return error
        [number] = insert([checked])
        if arrival.key:
            self._keys.remember(arrival.key, number, now)
        return SentMessage(id=number, fresh=True)

    def _store_or_refuse(self, checked: CheckedArrival, insert: Insert) -> Stored:
        return in_savepoint(self._db, "store a question", partial(self._store, checked, insert))

    def _find(self, arrival: Arrival) -> int | None:
        """Return the number under which an earlier try has stored a question."""
        rows = self._db.rows(
            "SELECT id FROM messages WHERE conversation_id=? AND id>? AND from_session=?"
            f" AND {self._begins} LIMIT 1",
            (arrival.conversation, arrival.after, arrival.session, _HEAD, arrival.query_id),
        )
        return rows[0][0] if rows else None


def _insert(new: Sequence[CheckedArrival], insert: Insert) -> list[Stored]:
    return [SentMessage(id=number, fresh=True) for number in insert(new)]
