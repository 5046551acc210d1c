"""The client of a process, used in one thread of its own, one call at a time.

So a commit never holds up the event loop.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from autopoll.bridge.connect import connect
from autopoll.client.client import Client
from autopoll.errors import BridgeError, BridgeUnavailable, ConfigError
from autopoll.home.config import Config, load
from autopoll.home.file_stamp import FileStamp, stamp_of
from autopoll.home.home import Home
from autopoll.home.shard_files import SettingsStamp, settings_stamp

if TYPE_CHECKING:
    from autopoll.bridge.protocols import Bridge

RETRY_S = 1.0  # from a try to reach the server of the bridge to the next
LOOK_S = 1.0  # between two looks at all files of shards: they cost more than a small call

T = TypeVar("T")

log = logging.getLogger(__name__)


class BridgeThread:
    """Opens the bridge with the first call, and again when another file has taken its place."""

    def __init__(self, home: Home, config: Config) -> None:
        self.home = home
        self.config = config
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bridge")
        self._client: Client | None = None
        self._seen: SettingsStamp | None = None  # of the settings
        self._stamps: tuple[FileStamp | None, ...] = ()  # of autopoll.toml and the folder of shards
        self._look_at = 0.0
        self._unreached: BridgeUnavailable | None = None
        self._retry_at = 0.0

    async def call(self, use: Callable[[Client], T]) -> T:
        """Return what `use` returns, or raise what it raises.

        It is carried out even when the caller is cancelled meanwhile.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: use(self._open()))

    async def close(self) -> None:
        """Close the bridge after the calls that are under way."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _open(self) -> Client:
        if self._client:
            try:
                self._client.bridge.require_in_place()
            except BridgeError as error:
                log.warning("opening the bridge again: %s", error)
                self._close()
        if self._client is None:
            self._client = Client(self.home, self.config, self._connect())
        self._reload_settings(self._client)
        return self._client

    def _connect(self) -> "Bridge":
        """Open the bridge; what waits behind a try that took its time raises what that has met."""
        if self._unreached and time.monotonic() < self._retry_at:
            raise BridgeUnavailable(self._unreached.what, self._unreached.mend)
        try:
            return connect(self.home, self.config)
        except BridgeUnavailable as error:
            self._unreached, self._retry_at = error, time.monotonic() + RETRY_S
            raise

    def _reload_settings(self, client: Client) -> None:
        """Load changed settings, as a command does that is started now.

        Only a shard's file may take LOOK_S to be noticed: one that is written in place, not
        replaced, or so soon after another that the folder keeps its time (a tick of the kernel).
        What concerns the bridge and the gateway itself takes effect with their next start, except
        `gateway.max_wait`, which each wait reads as it begins.
        """
        now = time.monotonic()
        stamps = (stamp_of(self.home.config), stamp_of(self.home.shard_files))
        if stamps == self._stamps and now < self._look_at:
            return
        self._stamps, self._look_at = stamps, now + LOOK_S
        try:
            seen = settings_stamp(self.home)
            if seen == self._seen:
                return
            self._seen = seen
            self.config = client.config = load(self.home)
        except ConfigError as error:
            log.warning("the settings stay as they were: %s", error)

    def _close(self) -> None:
        if self._client:
            self._client.bridge.close()
            self._client = None
