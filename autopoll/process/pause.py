"""Shards that answer nothing on purpose: the service behind their backend works for nobody, or
they have cost what they may cost in a day.

A used-up quota, an overload or bad credentials are not mended by a restart, which would only burn
more of the quota. So the shard is paused: its questions stay in the bridge, no attempt is used, and
after the time one of them is tried first. A pause is a file in var/run/pauses, so that it outlives
the poller, everybody can read it, and removing it ends it.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from autopoll.clock import wall_ms
from autopoll.home import files
from autopoll.home.home import Home
from autopoll.process import incident_log
from autopoll.process.incident_log import Incident
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
    """Return the pause that a refusal leads to, given the one that has just been tried.

    The first of a cause is an incident of `process`.
    """
    cause: Cause = failure.cause or "overloaded"
    times = before.times + 1 if before and before.cause == cause else 1
    until = wall_ms() + span_ms(cause, failure.retry_after_ms, times)
    return _begin(home, process, cause, failure.message, until, before)


def _begin(
    home: Home, process: str, cause: Cause, text: str, until: int, before: Pause | None
) -> Pause:
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
    pause = _read(home.pauses / shard)
    return pause if pause and pause.left_s else None


class Pauses:
    """The paused shards as the poller keeps them.

    A shard whose pause is over is on trial: it is given one question at a time, until one is
    answered.
    """

    def __init__(self, home: Home, shards: list[str]) -> None:
        """Take up what an earlier poller left."""
        self._home = home
        self._pauses: dict[str, Pause] = {}
        self._kept: set[str] = set()  # those whose file was written
        self.take_up(shards)

    def take_up(self, shards: list[str]) -> None:
        """Forget shards that are no more, and read what is kept of those that are new."""
        for shard in self._pauses.keys() - set(shards):
            del self._pauses[shard]
            self._kept.discard(shard)
        for shard in set(shards) - self._pauses.keys():
            if pause := _read(self._home.pauses / shard):
                self._pauses[shard] = pause
                self._kept.add(shard)

    def look(self) -> list[str]:
        """Let a trial begin where somebody removed the file, and return where that was the case.

        To be called once a second.
        """
        ended = [each for each in self._kept if not (self._home.pauses / each).exists()]
        for shard in ended:
            self._kept.remove(shard)
            self._pauses[shard] = msgspec.structs.replace(self._pauses[shard], until=0)
        return ended

    def room(self, shard: str, free: int, flying: int) -> int:
        """Return how many questions the shard may be given, of as many as its instances take."""
        pause = self._pauses.get(shard)
        if pause is None:
            return free
        return 0 if pause.left_s or flying else min(free, 1)

    def refused(self, shard: str, failure: Failure) -> None:
        """Pause the shard; what was on its way when it was paused changes nothing."""
        before = self._pauses.get(shard)
        if not (before and before.left_s):
            self._keep(shard, begin(self._home, f"shard {shard}", failure, before))

    def overspent(self, shard: str, text: str, until: int) -> None:
        """Pause the shard for its budget, unless it is paused anyway."""
        before = self._pauses.get(shard)
        if not (before and before.left_s):
            process = f"shard {shard}"
            self._keep(shard, _begin(self._home, process, "budget", text, until, before))

    def is_overspent(self, shard: str) -> bool:
        """Tell whether the shard is paused for its budget, or was until just now."""
        pause = self._pauses.get(shard)
        return pause is not None and pause.cause == "budget"

    def _keep(self, shard: str, pause: Pause) -> None:
        self._pauses[shard] = pause
        try:
            files.put(self._home.pauses / shard, msgspec.json.encode(pause))
            self._kept.add(shard)
        except OSError as error:
            log.warning("the pause of %s will not outlive us: %s", shard, error)

    def answered(self, shard: str) -> None:
        """End the trial of a shard, if it is on one."""
        pause = self._pauses.get(shard)
        if pause and not pause.left_s:
            self.lift(shard)

    def lift(self, shard: str) -> None:
        """End the pause of a shard that is paused or on trial."""
        pause = self._pauses.pop(shard)
        self._kept.discard(shard)
        remove(self._home, shard)
        log.info("shard %s works again", shard)
        end(self._home, pause)


def restarted(home: Home, shard: str) -> None:
    """End the pause of a shard whose instance somebody started anew: maybe all is mended now.

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


def _read(path: Path) -> Pause | None:
    try:
        pause = msgspec.json.decode(files.get(path) or b"", type=Pause)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return msgspec.structs.replace(pause, until=min(pause.until, pause.since + _LARGEST_MS))
