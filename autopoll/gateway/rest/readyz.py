"""Whether a question would be answered, as monitors ask without a token."""

import asyncio

from autopoll.errors import AutopollError, BridgeFull, Down
from autopoll.gateway.hub import Hub
from autopoll.home.config import Config
from autopoll.home.disk_samples import written_folders
from autopoll.home.home import Home
from autopoll.ops.status import disk_room
from autopoll.process.heartbeat import READY, is_alive, read_all

SHARED_S = 1.0  # for which one look serves all who ask


class Readiness:
    """Looks at most once at a time, and shares what was found for SHARED_S.

    Anybody may ask as often as they like, and a look writes to the disk.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._look: asyncio.Task[AutopollError | None] | None = None
        self._until = 0.0  # on the loop's clock; once the look is done

    async def require(self) -> None:
        """Raise Down unless poller, bridge, and a worker of every shard are there.

        Raises BridgeFull where too little can be written, and BridgeError.
        """
        loop = asyncio.get_running_loop()
        if self._look is None or (self._look.done() and loop.time() >= self._until):
            self._look = loop.create_task(self._find())
        # A caller that goes away ends the look for nobody else.
        if error := await asyncio.shield(self._look):
            raise error.with_traceback(None)  # of the callers before

    async def _find(self) -> AutopollError | None:
        """Return what is in the way of an answer."""
        hub = self._hub
        try:
            await hub.call(lambda client: client.bridge.overview.in_flight())
            # In a thread of its own: a disk that does not answer holds up no use-case.
            await asyncio.to_thread(_require_room_and_processes, hub.home, hub.config)
        except AutopollError as error:
            return error
        finally:
            self._until = asyncio.get_running_loop().time() + SHARED_S
        return None


def _require_room_and_processes(home: Home, config: Config) -> None:
    has_room, _ = disk_room(written_folders(home, config))
    if not has_room:  # which disk and how full is nothing for a stranger
        raise BridgeFull("there is too little room to write an answer", "See: autopoll health")
    ready = {beat.name for beat in read_all(home.beats) if beat.state in READY and is_alive(beat)}
    answered = {shard for name, shard in config.instances().items() if name in ready}
    if "poller" not in ready or answered != set(config.shards):
        raise Down("not every shard would answer", "See: autopoll status")
