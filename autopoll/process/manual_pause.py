"""Shards that somebody has paused by hand: their questions wait, and nothing is claimed of them.

A pause is a file in var/pauses, so that it holds over a restart of the home and of the machine,
unlike the pauses that a refusing service or a budget leads to. It is of this home alone: where
others share the bridge, they go on.
"""

from datetime import UTC, datetime
from math import inf

import msgspec

from autopoll.clock import wall_ms
from autopoll.home import files
from autopoll.home.home import Home
from autopoll.text import storable

_TEXT = 500  # characters


class ManualPause(msgspec.Struct, frozen=True, kw_only=True):
    """Who paused a shard and when; times are wall-clock milliseconds, `until` None without end."""

    by: str
    since: int
    until: int | None = None
    reason: str = ""

    @property
    def left_s(self) -> float:
        """Seconds until it ends by itself, 0 when it has."""
        return inf if self.until is None else max(0.0, (self.until - wall_ms()) / 1000)

    @property
    def words(self) -> str:
        """Who, when, until when and why, as `status` shows them."""
        until = "" if self.until is None else f" until {_moment(self.until)}"
        reason = f": {self.reason}" if self.reason else ""
        return f"by {self.by} since {_moment(self.since)}{until}{reason}"


def begin(home: Home, shard: str, by: str, reason: str, seconds: float | None) -> ManualPause:
    """Pause a shard, in place of an earlier pause by hand; raises OSError with nothing changed."""
    now = wall_ms()
    pause = ManualPause(
        by=by,
        since=now,
        until=None if seconds is None else now + round(seconds * 1000),
        reason=" ".join(storable(reason).split())[:_TEXT],
    )
    files.put(home.manual_pauses / shard, msgspec.json.encode(pause), durable=True)
    return pause


def read(home: Home, shard: str) -> ManualPause | None:
    """Return the pause of a shard that is paused by hand now."""
    content = files.get(home.manual_pauses / shard)
    if content is None:
        return None
    try:
        pause = msgspec.json.decode(content, type=ManualPause)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        # Somebody wanted it to be paused, and nobody can say for how long.
        return ManualPause(by="somebody", since=0, reason="its file cannot be read")
    return pause if pause.left_s else None


def end(home: Home, shard: str) -> ManualPause | None:
    """End the pause of a shard and return it, None when there was none; raises OSError."""
    pause = read(home, shard)
    (home.manual_pauses / shard).unlink(missing_ok=True)
    return pause


def _moment(ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):  # of a file that somebody wrote by hand
        return f"{ms} ms"
