"""Shards that answer nothing on purpose: the service behind their backend refuses every request, or
they have cost what they may cost in a day.

A used-up quota, an overload or bad credentials are not mended by a restart, which would only burn
more of the quota. So the shard is paused: its questions stay in the bridge, no attempt is used, and
after the time one of them is tried first. A pause is a file in var/run/pauses, so that it outlives
the poller, anybody can read it, and removing it ends it.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from autopoll.clock import wall_ms
from autopoll.home import files
from autopoll.home.home import Home
from autopoll.process import incident_log, manual_pause
from autopoll.process.incident_log import Incident
from autopoll.process.manual_pause import ManualPause
from autopoll.redact.redact import redact
from autopoll.request import Cause, Failure

_FIRST_MS = 60_000  # where no time is given, doubling …
_LONGEST_MS = 15 * 60_000
_CREDENTIALS_MS = 5 * 60_000  # nobody knows when a person will mend them
_GIVEN_MS = 1_000  # a given time is believed, but one that keeps being wrong costs ever more
_LARGEST_MS = 31 * 86_400_000
_TEXT = 500  # characters

log = logging.getLogger(__name__)


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """One pause; times are wall-clock milliseconds, for a quota ends by the clock on the wall."""

    cause: Cause
    text: str
    since: int
    until: int
    times: int  # trials in a row that ended in this pause
    incident: Incident | None = None

    @property
    def left_s(self) -> float:
        """Seconds until it may be tried again, 0 when it may."""
        now = wall_ms()
        # Before its beginning the clock was set back, and nobody knows when it ends.
        return (self.until - now) / 1000 if self.since <= now < self.until else 0.0

    @property
    def words(self) -> str:
        """Cause, time and text, as `status` shows them."""
        moment = datetime.fromtimestamp(self.until // 1000, UTC)
        return f"{self.cause} until {moment:%Y-%m-%dT%H:%M:%SZ}: {self.text}"


def span_ms(cause: Cause, given_ms: int | None, times: int) -> int:
    """Return how long to pause after so many trials in a row (from 1) that have failed."""
    doubled = 1 << min(times - 1, 16)
    if cause == "credentials":
        return _CREDENTIALS_MS
    if given_ms is None:
        return min(_LONGEST_MS, _FIRST_MS * doubled)
    return max(min(given_ms, _LARGEST_MS), min(_LONGEST_MS, _GIVEN_MS * doubled))


def begin(home: Home, process: str, failure: Failure, before: Pause | None) -> Pause:
    """Return the pause that a refusal leads to, given the one that has just been tried."""
    cause: Cause = failure.cause or "overloaded"
    times = before.times + 1 if before and before.cause == cause else 1
    until = wall_ms() + span_ms(cause, failure.retry_after_ms, times)
    return begin_until(home, process, cause, failure.message, until, before)


def begin_until(
    home: Home, process: str, cause: Cause, text: str, until: int, before: Pause | None
) -> Pause:
    """Return a pause, given the one that has just been tried.

    The first of a cause is an incident of `process`.
    """
    if before and before.cause != cause:
        end(home, before)
        before = None
    pause = Pause(
        cause=cause,
        text=" ".join(redact(text).split())[:_TEXT],
        since=wall_ms(),
        until=until,
        times=before.times + 1 if before else 1,
        incident=before.incident if before else None,
    )
    log.warning("%s is paused: %s", process, pause.words)
    if before:
        return pause
    try:
        incident = incident_log.record(
            home.incidents, process=process, verdict=cause, action="paused", evidence=pause.words
        )
    except OSError as error:  # a full disk; the pause holds all the same
        log.error("the incident could not be kept: %s", error)
        return pause
    return msgspec.structs.replace(pause, incident=incident)


def end(home: Home, pause: Pause) -> None:
    """Note that the service works again."""
    if pause.incident is None:
        return
    try:
        # By the wall clock, because the machine may have been restarted since.
        began = datetime.fromisoformat(pause.incident.at).timestamp()
        incident_log.recovered(
            home.incidents, pause.incident, max(0, wall_ms() - round(began * 1000))
        )
    except OSError as error:
        log.error("the recovery could not be kept: %s", error)


def read(home: Home, shard: str) -> Pause | None:
    """Return the pause of a shard that is paused now."""
    pause = read_file(home.pauses / shard)
    return pause if pause and pause.left_s else None


def current(home: Home, shard: str) -> Pause | ManualPause | None:
    """Return the pause of a shard that is paused now, by hand or not; the one by hand first."""
    return manual_pause.read(home, shard) or read(home, shard)


def restarted(home: Home, shard: str) -> None:
    """End the pause of a shard whose instance was started again by hand: maybe all is mended now.

    A used-up budget is not mended by that.
    """
    pause = read(home, shard)
    if pause is None or pause.cause != "budget":
        remove(home, shard)


def remove(home: Home, shard: str) -> None:
    """End the pause of a shard; its poller tries a question within a second."""
    try:
        (home.pauses / shard).unlink(missing_ok=True)
    except OSError as error:
        log.warning("the pause of %s cannot be ended: %s", shard, error)


def read_file(path: Path) -> Pause | None:
    """Return what is kept of a pause, over or not; None when there is none that can be read."""
    try:
        pause = msgspec.json.decode(files.get(path) or b"", type=Pause)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return msgspec.structs.replace(pause, until=min(pause.until, pause.since + _LARGEST_MS))
