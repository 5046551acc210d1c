"""What is shown of questions that wait or are under way, and what came of cancelling some.

Times are wall-clock milliseconds.
"""

from typing import Literal

import msgspec

from autopoll.bridge.records import QueryState

COUNTED = 1001  # a count of this is shown as "1,000+"
CancelOutcome = Literal["cancelled", "in turn", "marked before", "settled", "unserved", "unknown"]


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """What came of cancelling a question, and how it stands now; None for one that is not there.

    It was cancelled; or waits `in turn`, to be answered as cancelled behind those before it, maybe
    since somebody has `marked before`; or was settled, or is for no shard (`unserved`), and stays
    as it is.
    """

    message_id: int
    outcome: CancelOutcome
    was: str | None  # its state before
    query: QueryState | None


class QueuedQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question that has no answer yet; `attempt` counts from 1, 0 before the first.

    `host` and `home` are where it is under way. `cancelled` says by whom where it waits only for
    its turn to be answered as cancelled.
    """

    id: int
    conversation: str
    asker: str  # session
    role: str
    shard: str
    state: str  # sent | queued | ready | leased
    asked_at: int
    attempt: int
    last_error: str | None
    cancelled: str | None
    host: str | None
    home: str | None


class QueuePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of what waits, oldest first; `next` is what to go on after, None at the end.

    `counts` is by state, of the whole queue, and stops at COUNTED: there may be more.
    """

    questions: list[QueuedQuestion]
    next: int | None
    counts: dict[str, int]
