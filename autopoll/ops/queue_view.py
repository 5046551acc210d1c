"""The queue as an operator looks at it: what the bridge knows, and which worker is at which."""

import msgspec

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.queue_records import QueuedQuestion
from autopoll.clock import wall_ms
from autopoll.home.home import Home
from autopoll.ops.under_way import UnderWay, under_way
from autopoll.process import shard_pause


class QueueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A question that has no answer yet; times are wall-clock milliseconds.

    `worker` and `since` are of the worker that has begun it, on this home; `host` and `home` are
    where it is under way.
    """

    id: int
    shard: str
    state: str
    age_s: float
    asked_at: int
    conversation: str
    asker: str
    role: str
    attempt: int
    worker: str | None
    since: int | None
    host: str | None
    home: str | None
    last_error: str | None
    cancelled: str | None
    paused: str | None


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the queue, oldest first; `next` is what to go on after, None at the end.

    `counts` is by state, of the whole queue, and stops at 1001.
    """

    questions: list[QueueEntry]
    next: int | None
    counts: dict[str, int]


def queue(
    home: Home, bridge: Bridge, *, shard: str | None = None, after: int = 0, limit: int = 100
) -> QueueView:
    """Return what waits and what is under way, beyond a number."""
    page = bridge.overview.queue(shard=shard, after=after, limit=limit)
    workers = under_way(home)
    pauses = {name: shard_pause.current(home, name) for name in {q.shard for q in page.questions}}
    reasons = {name: found.words for name, found in pauses.items() if found}
    return QueueView(
        questions=[
            _entry(each, workers.get(each.id), reasons.get(each.shard)) for each in page.questions
        ],
        next=page.next,
        counts=page.counts,
    )


def _entry(found: QueuedQuestion, worker: UnderWay | None, paused: str | None) -> QueueEntry:
    at = worker if found.state == "leased" else None
    return QueueEntry(
        id=found.id,
        shard=found.shard,
        state=found.state,
        age_s=round(max(0, wall_ms() - found.asked_at) / 1000, 1),
        asked_at=found.asked_at,
        conversation=found.conversation,
        asker=found.asker,
        role=found.role,
        attempt=found.attempt,
        worker=at.worker if at else None,
        since=at.since if at else None,
        host=found.host,
        home=found.home,
        last_error=found.last_error,
        cancelled=found.cancelled,
        paused=None if found.state == "leased" else paused,
    )
