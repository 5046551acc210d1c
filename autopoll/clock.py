"""Durations, clocks and back-off."""

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from autopoll.errors import UsageError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS = 86_400_000
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)", re.ASCII)


class Duration(float):
    """A span of time in seconds, written as `500ms`, `60s`, `2m`, `1h` or `30d`."""

    @classmethod
    def parse(cls, value: Any) -> "Duration":
        """Read a duration; raise UsageError when it is not one, zero or over ten years."""
        match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
        seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
        if not 0 < seconds <= 10 * 365 * 86400:
            raise UsageError(
                f"{value!r} is not a duration", "Write it as 500ms, 60s, 2m, 1h or 30d."
            )
        return cls(seconds)

    @property
    def ms(self) -> int:
        """The span in whole milliseconds."""
        return round(self * 1000)


def until_next(seconds: float, now: float) -> float:
    """Return the time to a multiple of `seconds` of CLOCK_MONOTONIC, from half to one and a half.

    What the processes of a home do once a second, they do at the same moment: each finds in the
    caches of the processor what another has just left there, and an idle one is woken less.
    """
    return (round(now / seconds) + 1) * seconds - now


def wall_ms() -> int:
    """Return milliseconds since the epoch, the unit of every time the bridge stores as a number."""
    return time.time_ns() // 1_000_000


def utc_now() -> datetime:
    """Return the time on the wall, which may be set at any moment, as all that goes by it may."""
    return _EPOCH + timedelta(microseconds=time.time_ns() // 1000)


def utc_day(ms: int) -> str:
    """Return the UTC day of a wall-clock time, as "2026-03-01"."""
    return datetime.fromtimestamp(ms // 1000, UTC).date().isoformat()


def day_end_ms(ms: int) -> int:
    """Return the UTC midnight that follows a wall-clock time."""
    return (ms // _DAY_MS + 1) * _DAY_MS


def utc_iso(offset_s: int = 0) -> str:
    """Return the time as a naive UTC ISO string, the form that legacy bridge clients can read."""
    seconds, ns = divmod(time.time_ns(), 1_000_000_000)
    return f"{_utc_second(seconds + offset_s)}.{ns // 1000:06d}"


def utc_iso_of(ms: int) -> str:
    """Return a wall-clock time as `utc_iso` does."""
    seconds, rest = divmod(ms, 1000)
    return f"{_utc_second(seconds)}.{rest:03d}000"


@lru_cache(maxsize=1)
def _utc_second(seconds: int) -> str:
    """Many rows are written within a second."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat().removesuffix("+00:00")


def zoned(text: str, precision: str = "seconds") -> str:
    """Return a stored time as it is shown: in UTC, and saying so; what is no time stays as it is.

    Times without a zone, as the legacy tables hold them, are UTC.
    """
    try:
        moment = datetime.fromisoformat(text)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return text
    return moment.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def parse_utc_ms(text: str | None) -> int | None:
    """Return a naive UTC ISO string as milliseconds; None when it is none."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def backoff_ms(attempt: int, *, base_ms: int = 200, cap_ms: int = 30_000) -> int:
    """Return how long to wait after the given failed attempt (from 1), with jitter.

    Grows fourfold an attempt, because the first failure is mostly a killed process and the asker
    waits; half of the span is random, so that what failed together does not come back together.
    """
    import random  # here: it loads OpenSSL, 5 ms that most commands need not pay

    span = min(cap_ms, base_ms << 2 * min(attempt - 1, 16))
    return span // 2 + random.randrange(span // 2 + 1)  # noqa: S311 - jitter, not a secret
