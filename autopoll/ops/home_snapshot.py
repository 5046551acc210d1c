"""All that a live view of a home shows, looked at once: status, shards by numbers, incidents."""

from collections import defaultdict
from contextlib import closing, suppress

import msgspec

from autopoll.bridge.connect import connect
from autopoll.bridge.records import Backlog, RecentAnswer
from autopoll.clock import wall_ms
from autopoll.errors import AutopollError
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.ops.status import ShardStatus, Status, status
from autopoll.process import incident_log
from autopoll.process.incident_log import Incident

_RATE_MS = 60_000  # over which answers are counted
_INCIDENTS = 20


class ShardFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One shard by numbers; latencies of its newest answers in milliseconds, None before any."""

    status: ShardStatus
    waiting: int
    oldest_s: float | None
    per_minute: int  # answers in the last minute
    p50_ms: int | None
    p99_ms: int | None


class HomeSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A home at one moment (wall-clock milliseconds); the newest incidents come first."""

    at: int
    status: Status
    shards: list[ShardFigures]
    incidents: list[Incident]


def snapshot(home: Home, config: Config) -> HomeSnapshot:
    """Look at a home, changing nothing; what cannot be read is named in the status."""
    now = status(home, config)
    at = wall_ms()
    backlog: list[Backlog] = []
    recent: list[RecentAnswer] = []
    with (
        suppress(AutopollError),  # the status names it
        closing(connect(home, config, read_only=True)) as bridge,
    ):
        backlog = bridge.overview.backlog()
        recent = bridge.overview.recent_answers()
    answers = defaultdict(list)
    for each in recent:
        answers[each.shard].append(each)
    return HomeSnapshot(
        at=at,
        status=now,
        shards=[_figures(shard, backlog, answers[shard.name], at) for shard in now.shards],
        incidents=incident_log.read(home.incidents)[: -_INCIDENTS - 1 : -1],
    )


def _figures(
    shard: ShardStatus, backlog: list[Backlog], answers: list[RecentAnswer], at: int
) -> ShardFigures:
    waiting = [each for each in backlog if each.shard == shard.name and each.state != "leased"]
    oldest = min((each.oldest_at for each in waiting), default=None)
    times = sorted(each.latency_ms for each in answers)
    return ShardFigures(
        status=shard,
        waiting=sum(each.count for each in waiting),
        oldest_s=None if oldest is None else max(0, at - oldest) / 1000,
        per_minute=sum(0 <= at - each.settled_at < _RATE_MS for each in answers),
        p50_ms=times[len(times) // 2] if times else None,
        p99_ms=times[min(len(times) - 1, len(times) * 99 // 100)] if times else None,
    )
