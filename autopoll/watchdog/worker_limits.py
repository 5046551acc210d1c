"""The limits of the workers by the settings of their shards, as far as these can be read.

The watchdog must not depend on them: a mistake in them leaves the home as watched as it
was before. Correct ones take effect within a few seconds.
"""

import logging

import msgspec

from autopoll.errors import ConfigError
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.home.shard_files import SettingsStamp, settings_stamp

log = logging.getLogger(__name__)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one worker; None is no limit."""

    progress_s: float | None = None
    rss_bytes: int | None = None


NO_LIMITS = Limits()


class WorkerLimits:
    """The limits of all workers, kept up to date."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._seen: SettingsStamp | None = None
        self._of: dict[str, Limits] = {}

    def of(self, name: str) -> Limits:
        """Return the limits of a process; those that are no workers have none."""
        return self._of.get(name, NO_LIMITS)

    def refresh(self) -> None:
        """Read the settings again if they have changed; a mistake in them is logged once."""
        seen = settings_stamp(self._home)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            config = load(self._home)
        except ConfigError as error:
            log.warning("the limits stay as they are: %s", error)
            return
        self._of = {
            name: Limits(
                progress_s=config.shards[shard].progress_timeout,
                rss_bytes=config.shards[shard].max_memory,
            )
            for name, shard in config.instances().items()
        }
