"""MCP over HTTP, at /mcp of the gateway: streamable HTTP, behind the gateway's guard and tokens."""

from types import TracebackType
from typing import Self

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from autopoll.errors import AutopollError
from autopoll.gateway.access import Visit
from autopoll.gateway.mcp.server import make_server
from autopoll.gateway.problems import response
from autopoll.gateway.waiting import Hub

PATH = "/mcp"
HEADERS = ("MCP-Protocol-Version", "Mcp-Session-Id", "Mcp-Method", "Mcp-Name")  # of its requests
_SCHEME = "bearer "


class Door:
    """An ASGI application, used as an async context manager for as long as it is open.

    It keeps no sessions: each request is proven by its own token and carried out by itself, so that
    a client notices nothing of a restart of the gateway. Closing a request's connection ends it.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._manager = StreamableHTTPSessionManager(
            make_server(hub, _visit_of),
            stateless=True,
            max_request_body_size=hub.config.gateway.max_body,
        )
        self._open = self._manager.run()

    async def __aenter__(self) -> Self:
        await self._open.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.__aexit__(kind, error, trace)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in whoever shows a token, and hand the request over."""
        visit = Visit(self._hub, _bearer(Request(scope)))
        try:
            await visit.call(lambda _service, _caller: None)
        except AutopollError as error:
            await response(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["visit"] = visit
        await self._manager.handle_request(scope, receive, send)


def _visit_of(request: Request) -> Visit:
    visit = request.state.visit
    assert isinstance(visit, Visit)
    return visit


def _bearer(request: Request) -> str | None:
    header = request.headers.get("authorization", "")
    if header[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return header[len(_SCHEME) :].strip()
