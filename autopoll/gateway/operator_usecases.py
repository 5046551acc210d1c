"""Use-cases of whoever looks after a home: status, incidents, dead letters, and its health.

All but `require_ready`, which monitors may ask for without a token, are for the operator only.
"""

import asyncio

from autopoll.bridge.records import DeadLetter
from autopoll.client.client import Client
from autopoll.errors import BridgeFull, Down, NotFound
from autopoll.gateway.usecases import CallerAccess, UseCases
from autopoll.ops import status as home_status
from autopoll.ops.status import Status
from autopoll.process import incident_log
from autopoll.process.heartbeat import READY, is_alive, read_all
from autopoll.process.incident_log import Incident
from autopoll.process.nudge import nudge

SHOWN = 1000  # bytes of each dead letter in a list


async def status(access: CallerAccess) -> Status:
    """Return what `autopoll status` shows."""
    await access.call(UseCases.require_operator)
    # In a thread of its own: supervisord is given a second to answer.
    return await asyncio.to_thread(home_status.status, access.hub.home, access.hub.config)


async def incidents(access: CallerAccess, last: int) -> list[Incident]:
    """Return the newest incidents, oldest first."""
    await access.call(UseCases.require_operator)
    return (await asyncio.to_thread(incident_log.read, access.hub.home.incidents))[-last:]


def dead_letters(use: UseCases) -> list[DeadLetter]:
    """Return the dead letters that are neither retried nor dropped; long texts are cut."""
    use.require_operator()
    return use.client.bridge.overview.dead_letters(text_bytes=SHOWN)


def dead_letter(use: UseCases, number: int) -> DeadLetter:
    """Return a dead letter whole."""
    use.require_operator()
    found = use.client.bridge.overview.dead_letters(message_id=number)
    if not found:
        raise NotFound(f"there is no dead letter {number}", "List them: GET /v1/dead-letters")
    return found[0]


def retry(use: UseCases, number: int) -> int:
    """Ask a dead letter again; return the number of the new question."""
    use.require_operator()
    new = use.client.bridge.overview.retry_dead(number)
    nudge(use.client.home)
    return new


def drop(use: UseCases, number: int) -> None:
    """Forget a dead letter; its message and its error answer stay."""
    use.require_operator()
    use.client.bridge.overview.drop_dead(number)


def require_ready(client: Client) -> None:
    """Raise Down unless poller, bridge, and a worker of every shard are there.

    Raises BridgeFull where too little can be written.
    """
    client.bridge.overview.in_flight()
    has_room, _ = home_status.disk_room(home_status.written_folders(client.home, client.config))
    if not has_room:  # which disk and how full is nothing for a stranger
        raise BridgeFull("there is too little room to write an answer", "See: autopoll health")
    ready = {
        beat.name for beat in read_all(client.home.beats) if beat.state in READY and is_alive(beat)
    }
    answered = {shard for name, shard in client.config.instances().items() if name in ready}
    if "poller" not in ready or answered != set(client.config.shards):
        raise Down("not every shard would answer", "See: autopoll status")
