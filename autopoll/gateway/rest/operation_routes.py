"""Operation over REST: what runs, what went wrong, and the dead letters; for the operator only."""

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response

from autopoll.bridge.records import DeadLetter
from autopoll.client.client import Client
from autopoll.errors import NotFound
from autopoll.gateway.access import Visiting
from autopoll.gateway.rest.conversation_routes import Stored
from autopoll.gateway.rest.openapi import problems, record, send
from autopoll.ops import status as home_status
from autopoll.ops.status import ShardStatus, Status
from autopoll.process import incident_log
from autopoll.process.waiter import nudge

router = APIRouter(prefix="/v1", tags=["operation"])

_SHOWN = 1000  # bytes of each dead letter in the list

Number = Annotated[int, Path(ge=1, le=2**63 - 1, description="The number of the question.")]


class Shards(msgspec.Struct, frozen=True):
    """Every shard of the home."""

    shards: list[ShardStatus]


class Incident(msgspec.Struct, frozen=True):
    """A kill, restart or failure with its reason."""

    at: str
    process: str
    verdict: str
    action: str
    evidence: str
    recovered_ms: int | None
    closed: str | None  # how it ended other than by a recovery


class Incidents(msgspec.Struct, frozen=True):
    """The newest incidents, oldest first."""

    incidents: list[Incident]


class DeadLetters(msgspec.Struct, frozen=True):
    """The dead letters, oldest first."""

    dead_letters: list[DeadLetter]


@router.get(
    "/shards",
    summary="List the shards",
    response_class=Response,
    responses={200: record(Shards, "Every shard with its instances."), **problems()},
)
async def shards(request: Request, visit: Visiting) -> Response:
    """Return every shard, how many of its instances are ready, and whether it is paused."""
    return send(Shards((await _look(request, visit)).shards))


@router.get(
    "/status",
    summary="Show what `autopoll status` shows",
    response_class=Response,
    responses={200: record(Status, "Processes, shards, queue, latency."), **problems()},
)
async def status(request: Request, visit: Visiting) -> Response:
    """Return how the home is."""
    return send(await _look(request, visit))


@router.get(
    "/incidents",
    summary="List kills and restarts with their reasons",
    response_class=Response,
    responses={200: record(Incidents, "The newest."), **problems()},
)
async def list_incidents(
    request: Request,
    visit: Visiting,
    last: Annotated[int, Query(ge=1, le=1000, description="The newest so many.")] = 50,
) -> Response:
    """Return when, what, why, on what evidence, and how long it took to recover."""
    await visit.operate(lambda client: None)
    found = await asyncio.to_thread(incident_log.read, request.app.state.home.incidents)
    shown = [
        Incident(*(getattr(each, name) for name in Incident.__struct_fields__))
        for each in found[-last:]
    ]
    return send(Incidents(shown))


@router.get(
    "/dead-letters",
    summary="List questions whose attempts are used up",
    response_class=Response,
    responses={200: record(DeadLetters, "Long texts are cut."), **problems()},
)
async def dead_letters(visit: Visiting) -> Response:
    """Return the dead letters that are neither retried nor dropped."""
    found = await visit.operate(
        lambda client: client.bridge.overview.dead_letters(text_bytes=_SHOWN)
    )
    return send(DeadLetters(found))


@router.get(
    "/dead-letters/{number}",
    summary="Show a dead letter whole",
    response_class=Response,
    responses={200: record(DeadLetter, "The whole of it."), **problems(404)},
)
async def dead_letter(visit: Visiting, number: Number) -> Response:
    """Return one dead letter."""

    def find(client: Client) -> DeadLetter:
        found = client.bridge.overview.dead_letters(message_id=number)
        if not found:
            raise NotFound(f"there is no dead letter {number}", "List them: GET /v1/dead-letters")
        return found[0]

    return send(await visit.operate(find))


@router.post(
    "/dead-letters/{number}/retry",
    status_code=201,
    summary="Ask a dead letter again",
    response_class=Response,
    responses={
        201: record(Stored, "The new question.", {"Location": "Where it is."}),
        **problems(404),
    },
)
async def retry(visit: Visiting, number: Number) -> Response:
    """Ask it again as a new question; the error answer of the old one stands."""

    def again(client: Client) -> int:
        new = client.bridge.overview.retry_dead(number)
        nudge(client.home)
        return new

    new = await visit.operate(again)
    return send(Stored(new), 201, {"Location": f"/v1/questions/{new}"})


@router.delete(
    "/dead-letters/{number}",
    status_code=204,
    summary="Drop a dead letter",
    response_class=Response,
    responses={204: {"description": "It is no longer listed."}, **problems(404)},
)
async def drop(visit: Visiting, number: Number) -> Response:
    """Forget a dead letter; its message and its error answer stay."""
    await visit.operate(lambda client: client.bridge.overview.drop_dead(number))
    return Response(status_code=204)


async def _look(request: Request, visit: Visiting) -> Status:
    """Look at the home; supervisord may take a second to answer, so not in the bridge's thread."""
    await visit.operate(lambda client: None)
    state = request.app.state
    return await asyncio.to_thread(home_status.status, state.home, state.config)
