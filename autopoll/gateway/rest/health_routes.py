"""Whether the gateway lives, and whether a question would be answered; told to everybody."""

import msgspec
from fastapi import APIRouter, Request, Response

from autopoll.client.client import Client
from autopoll.errors import Down
from autopoll.gateway.hub import Hub
from autopoll.gateway.rest.openapi import problems, record, send
from autopoll.process.heartbeat import ProcessState, is_alive, read_all

router = APIRouter(tags=["health"])

_READY = (ProcessState.IDLE, ProcessState.BUSY)


class Health(msgspec.Struct, frozen=True):
    """The answer to a monitor."""

    ok: bool


@router.get(
    "/healthz",
    summary="Whether the gateway lives",
    response_class=Response,
    responses={200: record(Health, "It does."), **problems(less=(401,))},
)
async def healthz() -> Response:
    """Answer without looking at anything else."""
    return send(Health(ok=True))


@router.get(
    "/readyz",
    summary="Whether a question would be answered",
    response_class=Response,
    responses={200: record(Health, "It would."), **problems(less=(401,))},
)
async def readyz(request: Request) -> Response:
    """Look at the heartbeats of poller and workers, and at the bridge.

    What is missing is named in /v1/status, for the operator.
    """
    hub: Hub = request.app.state.hub
    await hub.call(_require_ready)
    return send(Health(ok=True))


def _require_ready(client: Client) -> None:
    """Raise Down unless poller, bridge, and a worker of every shard are there."""
    client.bridge.overview.in_flight()
    ready = {
        beat.name for beat in read_all(client.home.beats) if beat.state in _READY and is_alive(beat)
    }
    answered = {shard for name, shard in client.config.instances().items() if name in ready}
    if "poller" not in ready or answered != set(client.config.shards):
        raise Down("not every shard would answer", "See: autopoll status")
