"""Questions over REST: ask, read how one stands, wait for its answer, follow it."""

import asyncio
import re
from collections.abc import Awaitable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from autopoll.client.result import Result, just_stored
from autopoll.errors import AutopollError, NotFound
from autopoll.gateway.hub import Hub
from autopoll.gateway.problems import response
from autopoll.gateway.rest import event_stream
from autopoll.gateway.rest.bearer_access import BearerAccess
from autopoll.gateway.rest.bodies import JsonRoute
from autopoll.gateway.rest.openapi import problems, record, send
from autopoll.gateway.usecases import Question
from autopoll.ops.question_trace import QuestionTrace

T = TypeVar("T")

_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,9})\"?", re.ASCII | re.IGNORECASE)
_PLACE = {"Location": "Where the question is."}
_WAITED = {"Preference-Applied": "How long was waited at most."}

router = APIRouter(prefix="/v1/questions", tags=["questions"], route_class=JsonRoute)

Id = Annotated[int, Path(ge=1, le=2**63 - 1, description="The number of the question.")]
Prefer = Annotated[
    str | None,
    Header(description="`wait=30` waits so many seconds for the answer (RFC 7240)."),
]
IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Asking again under the same key within a day asks nothing new.",
    ),
]


class NewQuestion(BaseModel):
    """A question; the operator names a shard, anybody else asks in the token's conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    question: str = Field(min_length=1)
    shard: str | None = Field(None, description="Whom to ask; else main.")
    conversation: str | None = Field(None, description="Where to ask; else the token's own.")
    context_file: str | None = Field(None, description="A file of the shard's context.")


@router.post(
    "",
    status_code=202,
    summary="Ask a question",
    response_class=Response,
    responses={
        200: record(Result, "The outcome; `status` tells.", _PLACE | _WAITED),
        202: record(Result, "Stored, and not answered yet.", _PLACE),
        **problems(404, 429),
    },
)
async def ask(
    request: Request,
    access: BearerAccess,
    question: NewQuestion,
    idempotency_key: IdempotencyHeader = None,
    prefer: Prefer = None,
) -> Response:
    """Store a question, and with `Prefer: wait=…` wait for its answer.

    It is kept once it is stored, whatever becomes of this request: read it again by its number, or
    ask again under the same Idempotency-Key.
    """
    asked = Question(**question.model_dump())
    sent = await access.ask(asked, idempotency_key)
    headers = {"Location": f"/v1/questions/{sent.id}"}
    if not sent.fresh:
        headers["Idempotency-Replayed"] = "true"
    seconds = _seconds(access.hub, prefer)
    if sent.fresh and seconds is None:
        return send(just_stored(sent.id), 202, headers)
    return await _answer(request, access.hub, sent.id, seconds, headers, 202)


@router.get(
    "/{question}",
    summary="Read how a question stands",
    response_class=Response,
    responses={200: record(Result, "How it stands; `status` tells.", _WAITED), **problems(404)},
)
async def read(
    request: Request, access: BearerAccess, question: Id, prefer: Prefer = None
) -> Response:
    """Return a question's outcome so far; with `Prefer: wait=…`, as soon as there is one."""
    result = await access.call(lambda use: use.result(question))
    seconds = _seconds(access.hub, prefer)
    if result.status != "pending" or seconds is None:
        return send(result)
    return await _answer(request, access.hub, question, seconds, {}, 200)


@router.get(
    "/{question}/events",
    summary="Follow a question",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: `progress`, `piece`, at last `answer`; `problem` "
            "when the gateway cannot go on.",
            "content": {"text/event-stream": {"schema": event_stream.SCHEMA}},
        },
        **problems(404),
    },
)
async def follow(
    request: Request,
    access: BearerAccess,
    question: Id,
    last_event_id: Annotated[
        str | None, Header(max_length=1000, description="Taken as it is: the whole state is sent.")
    ] = None,
) -> StreamingResponse:
    """Send how a question stands, each change, its answer as it is written, and then the answer."""
    await access.call(lambda use: use.result(question))
    return StreamingResponse(
        event_stream.stream(access.hub, question, access.hub.config.gateway.max_wait),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get(
    "/{question}/trace",
    summary="Read how a question came to its answer",
    response_class=Response,
    responses={200: record(QuestionTrace, "Every state with its time."), **problems(404)},
)
async def trace(access: BearerAccess, question: Id) -> Response:
    """Return every state of a question, its attempts, and how long each step took.

    The operator also sees workers, incidents and what it waits for.
    """
    return send(await access.trace(question))


def _seconds(hub: Hub, prefer: str | None) -> float | None:
    """Return how long the client prefers to wait, at most as long as is allowed; else None."""
    match = _WAIT.search(prefer or "")
    if match is None:
        return None
    return min(float(match[1]), hub.config.gateway.max_wait)


async def _answer(
    request: Request,
    hub: Hub,
    number: int,
    seconds: float | None,
    headers: dict[str, str],
    pending: int,
) -> Response:
    """Wait for a question that is stored, and answer how it stands then."""
    try:
        if seconds is None:
            result = await hub.call(lambda client: client.result(number))
        else:
            headers["Preference-Applied"] = f"wait={seconds:.0f}"
            result = await _unless_gone(request, hub.outcome(number, seconds))
    except NotFound:  # of a store that has taken the place of the one with the question
        raise
    except AutopollError as error:
        return response(error, kept=number)
    return send(result, pending if result.status == "pending" else 200, headers)


async def _unless_gone(request: Request, waiting: Awaitable[T]) -> T:
    """Return what is waited for; raise ClientDisconnect as soon as nobody wants it any more.

    Raises what receiving from the client raises, as for a body that is too large.
    """
    wanted = asyncio.timeout(None)
    gone = asyncio.create_task(_end_when_gone(request, wanted))
    try:
        async with wanted:
            return await waiting
    except TimeoutError:
        if not wanted.expired():
            raise
    finally:
        gone.cancel()
    await gone  # which raises what receiving raised
    raise ClientDisconnect


async def _end_when_gone(request: Request, wanted: asyncio.Timeout) -> None:
    """End a wait when its client has gone, or what is received from it raises."""
    this = asyncio.current_task()
    assert this
    try:
        while (await request.receive())["type"] != "http.disconnect":
            pass
    finally:
        if not this.cancelling():  # else the wait is over already
            wanted.reschedule(0)  # a time in the past: it ends now
