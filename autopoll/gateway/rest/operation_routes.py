"""Operation over REST: what runs, what went wrong, and the dead letters; for the operator only."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Response

from autopoll.bridge.records import AnsweringHome, DeadLetter
from autopoll.gateway import operator_usecases
from autopoll.gateway.rest.bearer_access import BearerAccess
from autopoll.gateway.rest.conversation_routes import Stored
from autopoll.gateway.rest.openapi import problems, record, send
from autopoll.ops.status import ShardStatus, Status

router = APIRouter(prefix="/v1", tags=["operation"])

Number = Annotated[int, Path(ge=1, le=2**63 - 1, description="The number of the question.")]


class ShardList(msgspec.Struct, frozen=True):
    """Every shard of the home."""

    shards: list[ShardStatus]


class IncidentReport(msgspec.Struct, frozen=True):
    """A kill, restart or failure with its reason."""

    at: str
    process: str
    verdict: str
    action: str
    evidence: str
    recovered_ms: int | None
    closed: str | None  # how it ended other than by a recovery
    host: str


class IncidentList(msgspec.Struct, frozen=True):
    """The newest incidents, oldest first."""

    incidents: list[IncidentReport]


class HostList(msgspec.Struct, frozen=True):
    """The homes that share the bridge."""

    hosts: list[AnsweringHome]


class DeadLetterList(msgspec.Struct, frozen=True):
    """The dead letters, oldest first."""

    dead_letters: list[DeadLetter]


@router.get(
    "/shards",
    summary="List the shards",
    response_class=Response,
    responses={200: record(ShardList, "Every shard with its instances."), **problems()},
)
async def shards(access: BearerAccess) -> Response:
    """Return every shard, how many of its instances are ready, and whether it is paused."""
    return send(ShardList((await operator_usecases.status(access)).shards))


@router.get(
    "/status",
    summary="Show what `autopoll status` shows",
    response_class=Response,
    responses={200: record(Status, "Processes, shards, queue, latency."), **problems()},
)
async def status(access: BearerAccess) -> Response:
    """Return how the home is."""
    return send(await operator_usecases.status(access))


@router.get(
    "/hosts",
    summary="List the homes that share the bridge",
    response_class=Response,
    responses={200: record(HostList, "Those that answer, or have done so."), **problems()},
)
async def hosts(access: BearerAccess) -> Response:
    """Return each home with its host, its shards, its last beat, and what it has in flight."""
    return send(HostList(await access.call(operator_usecases.hosts)))


@router.get(
    "/incidents",
    summary="List kills and restarts with their reasons",
    response_class=Response,
    responses={200: record(IncidentList, "The newest."), **problems()},
)
async def list_incidents(
    access: BearerAccess,
    last: Annotated[int, Query(ge=1, le=1000, description="The newest so many.")] = 50,
) -> Response:
    """Return when, what, why, on what evidence, and how long it took to recover."""
    shown = [
        IncidentReport(*(getattr(each, name) for name in IncidentReport.__struct_fields__))
        for each in await operator_usecases.incidents(access, last)
    ]
    return send(IncidentList(shown))


@router.get(
    "/dead-letters",
    summary="List questions whose attempts are used up",
    response_class=Response,
    responses={200: record(DeadLetterList, "Long texts are cut."), **problems()},
)
async def dead_letters(access: BearerAccess) -> Response:
    """Return the dead letters that are neither retried nor dropped."""
    return send(DeadLetterList(await access.call(operator_usecases.dead_letters)))


@router.get(
    "/dead-letters/{number}",
    summary="Show a dead letter whole",
    response_class=Response,
    responses={200: record(DeadLetter, "The whole of it."), **problems(404)},
)
async def dead_letter(access: BearerAccess, number: Number) -> Response:
    """Return one dead letter."""
    return send(await access.call(lambda use: operator_usecases.dead_letter(use, number)))


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
async def retry(access: BearerAccess, number: Number) -> Response:
    """Ask it again as a new question; the error answer of the old one stands."""
    new = await access.call(lambda use: operator_usecases.retry(use, number))
    return send(Stored(new), 201, {"Location": f"/v1/questions/{new}"})


@router.delete(
    "/dead-letters/{number}",
    status_code=204,
    summary="Drop a dead letter",
    response_class=Response,
    responses={204: {"description": "It is no longer listed."}, **problems(404)},
)
async def drop(access: BearerAccess, number: Number) -> Response:
    """Forget a dead letter; its message and its error answer stay."""
    await access.call(lambda use: operator_usecases.drop(use, number))
    return Response(status_code=204)
