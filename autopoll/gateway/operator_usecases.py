"""Use-cases of whoever looks after a home, the operator only: status, incidents, dead letters."""

import asyncio

from autopoll.bridge.records import AnsweringHome, DeadLetter
from autopoll.errors import NotFound
from autopoll.gateway.usecases import CallerAccess, UseCases
from autopoll.ops import status as home_status
from autopoll.ops.status import Status
from autopoll.process import incident_log
from autopoll.process.incident_log import Incident
from autopoll.process.nudge import nudge

SHOWN = 1000  # bytes of each dead letter in a list


async def status(access: CallerAccess) -> Status:
    """Return what `autopoll status` shows."""
    await access.call(UseCases.require_operator)
    # In a thread of its own: supervisord is given a second to answer.
    return await asyncio.to_thread(home_status.status, access.hub.home, access.hub.config)


def hosts(use: UseCases) -> list[AnsweringHome]:
    """Return the homes that share the bridge."""
    use.require_operator()
    return use.client.bridge.overview.homes()


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
