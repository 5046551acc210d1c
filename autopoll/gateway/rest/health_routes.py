"""Whether the gateway lives, and whether a question would be answered; without a token."""

import msgspec
from fastapi import APIRouter, Request, Response

from autopoll.gateway.rest.openapi import problems, record, send
from autopoll.gateway.rest.readyz import Readiness

router = APIRouter(tags=["health"])


class ProbeResult(msgspec.Struct, frozen=True):
    """The answer to a monitor."""

    ok: bool


@router.get(
    "/healthz",
    summary="Whether the gateway lives",
    response_class=Response,
    responses={200: record(ProbeResult, "It does."), **problems(less=(401,))},
)
async def healthz() -> Response:
    """Answer without looking at anything else."""
    return send(ProbeResult(ok=True))


@router.get(
    "/readyz",
    summary="Whether a question would be answered",
    response_class=Response,
    responses={200: record(ProbeResult, "It would."), **problems(less=(401,))},
)
async def readyz(request: Request) -> Response:
    """Look at the heartbeats of poller and workers, at the bridge, and at the room on its disk.

    What is missing is named in /v1/status, for the operator.
    """
    readiness: Readiness = request.app.state.readiness
    await readiness.require()
    return send(ProbeResult(ok=True))
