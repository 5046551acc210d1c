"""The home that is looked at, as far as it can be read."""

from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from typing import NamedTuple

from autopoll.bridge.connect import connect
from autopoll.bridge.records import Backlog, StoreWarning
from autopoll.client.other_homes import others_serving
from autopoll.errors import AutopollError, ConfigError
from autopoll.home import var_check
from autopoll.home.config import Config, load
from autopoll.home.home import Home
from autopoll.home.lock import holder_of
from autopoll.ops.status import Status, status

EXAMINE_S = 2.0  # for damage of the database


class BridgeFacts(NamedTuple):
    """What the bridge says, as far as it could be read; `error` is why not.

    `lost_routes` are (conversation, session, shard) of shards that nobody has; `newest_at` is when
    the last question was settled, in ms.
    """

    error: AutopollError | None = None
    is_whole: bool = False  # all of it was read
    backlog: Sequence[Backlog] = ()
    lost_routes: Sequence[tuple[str, str, str]] = ()
    newest_at: int | None = None
    warnings: Sequence[StoreWarning] = ()


class Subject:
    """Reads each thing once, when a hop first asks for it."""

    def __init__(self, home: Home) -> None:
        self.home = home

    @cached_property
    def is_readable(self) -> bool:
        """Whether what is in var/ is ours to read."""
        return not var_check.belongs_to_others(self.home)

    @cached_property
    def config_error(self) -> ConfigError | None:
        """Why the settings cannot be used."""
        try:
            self._config = load(self.home)
        except ConfigError as error:
            return error
        return None

    @cached_property
    def config(self) -> Config | None:
        """The settings, None where they cannot be used."""
        return None if self.config_error else self._config

    @cached_property
    def supervisord(self) -> int | None:
        """The process id of supervisord, None while the home is down."""
        try:
            return holder_of(self.home.supervisord_lock)
        except OSError:
            return None

    @cached_property
    def status(self) -> Status | None:
        """The status; None where it cannot be had, and then another hop says why."""
        if self.config is None or not self.is_readable:
            return None
        try:
            return status(self.home, self.config)
        except AutopollError:
            return None

    @cached_property
    def bridge(self) -> BridgeFacts:
        """What the bridge says."""
        assert self.config is not None
        config = self.config
        try:
            with closing(connect(self.home, config, read_only=True)) as bridge:
                whole = bridge.examine(EXAMINE_S)
                backlog = bridge.overview.backlog()
                lost = [
                    (conversation, session, shard)
                    for (conversation, session), shard in bridge.conversations.routes().items()
                    if shard not in config.shards and not others_serving(self.home, bridge, shard)
                ]
                newest = bridge.overview.recent_answers(1)
                return BridgeFacts(
                    is_whole=whole,
                    backlog=backlog,
                    lost_routes=lost,
                    newest_at=newest[0].settled_at if newest else None,
                    warnings=bridge.warnings(),
                )
        except AutopollError as error:
            return BridgeFacts(error=error)
