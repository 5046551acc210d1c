"""The queue over REST: look at it, hold and resume a shard, take a question back."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from autopoll.gateway import queue_usecases
from autopoll.gateway.rest.bearer_access import BearerAccess
from autopoll.gateway.rest.bodies import JsonRoute
from autopoll.gateway.rest.openapi import problems, record, send
from autopoll.gateway.rest.question_routes import Id
from autopoll.ops.pausing import PausedShard, ResumedShard
from autopoll.ops.queue_view import QueueView

router = APIRouter(prefix="/v1", tags=["operation"], route_class=JsonRoute)

Shard = Annotated[str, Path(max_length=200, description="The name of the shard.")]


class CancelledQuestion(msgspec.Struct, frozen=True):
    """A question that was cancelled; `in turn`: it is answered after those before it."""

    id: int
    cancelled: bool
    outcome: str
    was: str | None
    state: str | None


class NewPause(BaseModel):
    """Why a shard is paused, and for how long; without `seconds` until it is resumed."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = Field("", max_length=500)
    seconds: float | None = Field(None, gt=0, le=315360000, allow_inf_nan=False)


@router.get(
    "/queue",
    summary="List what waits and what is under way",
    response_class=Response,
    responses={200: record(QueueView, "Oldest first; go on after `next`."), **problems()},
)
async def queue(
    access: BearerAccess,
    shard: Annotated[str | None, Query(max_length=200, description="Of this shard alone.")] = None,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="Beyond this question.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 100,
) -> Response:
    """Return each question without an answer: whose, how old, and which worker is at it."""
    return send(await access.call(lambda use: queue_usecases.queue(use, shard, after, limit)))


@router.post(
    "/questions/{question}/cancel",
    summary="Take a question back",
    response_class=Response,
    responses={200: record(CancelledQuestion, "It was cancelled."), **problems(404, 409)},
)
async def cancel(access: BearerAccess, question: Id) -> Response:
    """Answer a question with an error that says who cancelled it; 409 when it is answered."""
    done = await access.call(lambda use: queue_usecases.cancel(use, question))
    state = done.query.state if done.query else None
    return send(CancelledQuestion(done.message_id, True, done.outcome, done.was, state))


@router.post(
    "/shards/{shard}/pause",
    summary="Keep a shard from answering",
    response_class=Response,
    responses={200: record(PausedShard, "It is paused."), **problems(404)},
)
async def pause(access: BearerAccess, shard: Shard, given: NewPause | None = None) -> Response:
    """Have nothing more claimed for a shard of this home; its questions are kept."""
    new = given or NewPause(reason="", seconds=None)
    return send(
        await access.call(lambda use: queue_usecases.pause(use, shard, new.reason, new.seconds))
    )


@router.post(
    "/shards/{shard}/resume",
    summary="End the pause of a shard",
    response_class=Response,
    responses={
        200: record(ResumedShard, "`paused` says why it is paused all the same."),
        **problems(404),
    },
)
async def resume(access: BearerAccess, shard: Shard) -> Response:
    """End a pause by hand, and one for a quota, an overload or a login."""
    return send(await access.call(lambda use: queue_usecases.resume(use, shard)))
