"""Pauses a shard by hand, and resumes it; works whether the home is up or down."""

import msgspec

from autopoll.errors import AutopollError, NotFound
from autopoll.home import operation_log
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.process import manual_pause, shard_pause
from autopoll.process.manual_pause import ManualPause
from autopoll.process.nudge import nudge


class PausedShard(msgspec.Struct, frozen=True, kw_only=True):
    """A shard that is paused by hand; times are wall-clock milliseconds."""

    shard: str
    by: str
    since: int
    until: int | None
    reason: str
    words: str


class ResumedShard(msgspec.Struct, frozen=True, kw_only=True):
    """A shard that is not paused by hand any more.

    `ended` are the pauses that were ended, in words; `paused` is why it is paused all the same.
    """

    shard: str
    ended: list[str]
    paused: str | None


def pause(
    home: Home, config: Config, shard: str, by: str, reason: str = "", seconds: float | None = None
) -> PausedShard:
    """Have nothing more claimed for a shard of this home; what is under way is finished.

    Raises NotFound, and AutopollError with nothing changed when it cannot be written.
    """
    _require(config, shard)
    try:
        made = manual_pause.begin(home, shard, by, reason, seconds)
    except OSError as error:
        raise _unwritable(home, error) from error
    operation_log.note(home, "paused", by=by, shard=shard, detail=made.reason)
    nudge(home)
    return _shown(shard, made)


def resume(home: Home, config: Config, shard: str, by: str) -> ResumedShard:
    """End the pause of a shard by hand, and one that its service led to.

    A used-up budget is not mended by that. Raises NotFound, and AutopollError as `pause` does.
    """
    _require(config, shard)
    before = [
        each for each in (manual_pause.read(home, shard), shard_pause.read(home, shard)) if each
    ]
    try:
        manual_pause.end(home, shard)
    except OSError as error:
        raise _unwritable(home, error) from error
    shard_pause.restarted(home, shard)
    left = shard_pause.current(home, shard)
    ended = [each.words for each in before if left is None or each.words != left.words]
    if ended:
        operation_log.note(home, "resumed", by=by, shard=shard, detail=ended[0])
    nudge(home)
    return ResumedShard(shard=shard, ended=ended, paused=left.words if left else None)


def _shown(shard: str, made: ManualPause) -> PausedShard:
    return PausedShard(
        shard=shard,
        by=made.by,
        since=made.since,
        until=made.until,
        reason=made.reason,
        words=made.words,
    )


def _require(config: Config, shard: str) -> None:
    if shard not in config.shards:
        raise NotFound(f"there is no shard {shard!r}", f"There are: {', '.join(config.shards)}.")


def _unwritable(home: Home, error: OSError) -> AutopollError:
    return AutopollError(
        f"{home.manual_pauses} cannot be changed: {error.strerror}",
        "Make room, or make it yours; nothing was changed.",
    )
