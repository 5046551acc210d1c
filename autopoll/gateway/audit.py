"""The audit of requests that are turned away before it is known who calls."""

import asyncio
import logging

from autopoll.errors import BridgeError
from autopoll.gateway.hub import Hub

log = logging.getLogger(__name__)


class Audit:
    """Writes refusals into the bridge's audit log, and holds up nobody meanwhile."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._writing: dict[str, asyncio.Task[None]] = {}

    def __call__(self, why: str) -> None:
        """Note a refusal; `why` is one of a few words."""
        if why not in self._writing:  # the bridge keeps one a minute of a kind anyway
            self._writing[why] = task = asyncio.create_task(self._write(why))
            task.add_done_callback(lambda _: self._writing.pop(why))

    async def _write(self, why: str) -> None:
        try:
            await self._hub.call(lambda client: client.bridge.conversations.audit_denial(None, why))
        except BridgeError as error:
            log.warning("cannot audit %s: %s", why, error)
