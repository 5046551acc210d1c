"""MCP over HTTP, at /mcp of the gateway: streamable HTTP, with the checks and tokens of REST."""

import json
import logging
import secrets
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.streamable_http import check_accept_headers
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from autopoll.errors import AutopollError, NotFound
from autopoll.gateway.authentication import bearer
from autopoll.gateway.hub import Hub
from autopoll.gateway.mcp.log_relay import CALLER, LogRelay
from autopoll.gateway.mcp.mcp_server import McpServer
from autopoll.gateway.mcp.rpc import parse
from autopoll.gateway.mcp.subscriber import Subscriber
from autopoll.gateway.mcp.subscribers import ClientKey, Subscribers
from autopoll.gateway.mcp.transcript_watch import TranscriptWatch
from autopoll.gateway.problems import ProblemKind, problem, response
from autopoll.gateway.usecases import CallerAccess, by_token

PATH = "/mcp"
HEADERS = (  # of its requests
    "MCP-Protocol-Version",
    "Mcp-Session-Id",
    "Mcp-Method",
    "Mcp-Name",
    "Last-Event-ID",
)
_SESSION = "Mcp-Session-Id"
_VERSION = "MCP-Protocol-Version"
_PRIMED = "2025-11-25"  # the first revision whose clients read events without data
_STREAM = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}

log = logging.getLogger(__name__)


class McpEndpoint:
    """An ASGI application, used as an async context manager for as long as it is open.

    It keeps no sessions: each request is proven by its own token and carried out by itself, so that
    a client notices nothing of a restart of the gateway. Closing a request's connection ends it.

    Clients of the handshake era cancel by another request instead, that names the first by a number
    which only means something together with the client. So each is given a name at its handshake,
    under the header of a session; any name is welcome, also one of a gateway before this one, but
    not one that its client has ended. By it the client has a stream of notifications, too (GET).
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.watch = TranscriptWatch(hub)
        self.relay = LogRelay()
        self._subscribers = Subscribers(self.watch, self.relay)
        self._manager = StreamableHTTPSessionManager(
            McpServer(self),
            stateless=True,
            max_request_body_size=hub.config.gateway.max_body,
        )
        self._open = AsyncExitStack()
        self._at_work: dict[tuple[ClientKey, str], anyio.CancelScope] = {}

    async def __aenter__(self) -> Self:
        self._open.enter_context(self.relay)
        await self._open.enter_async_context(self.watch)
        await self._open.enter_async_context(self._manager.run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.drain()
        await self._open.__aexit__(kind, error, trace)

    def drain(self) -> None:
        """End all streams of notifications; may be called twice."""
        self._subscribers.drain()
        self.watch.drain()

    def access(self, context: ServerRequestContext[Any, Request]) -> CallerAccess:
        """Return the access of a request's token."""
        assert context.request
        access = context.request.state.access
        assert isinstance(access, CallerAccess)
        return access

    def subscriber(self, context: ServerRequestContext[Any, Request]) -> Subscriber:
        """Return what is kept of a client; raise MCPError for one that does not say who it is."""
        assert context.request
        key = context.request.state.client
        if key is None:
            raise MCPError(
                INVALID_REQUEST,
                f"the header {_SESSION} is missing, so nothing can be sent; initialize returned it",
            )
        return self._subscribers.get(key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request that shows a token."""
        request = Request(scope, receive)
        access = by_token(self.hub, bearer(request))
        try:
            caller = await access.call(lambda use: use.caller.scope)
        except AutopollError as error:
            await response(error)(scope, receive, send)
            return
        name = request.headers.get(_SESSION)
        key = ClientKey(caller, name) if name else None
        CALLER.set(caller)
        scope.setdefault("state", {}).update(access=access, client=key)
        if key and self._subscribers.has_ended(key):
            await response(NotFound("this session was ended", "Initialize."))(scope, receive, send)
        elif request.method == "POST":
            await self._post(request, key, send)
        else:
            await self._other(request, key, access)(scope, receive, send)

    async def _post(self, request: Request, key: ClientKey | None, send: Send) -> None:
        body = await request.body()
        message, errors = parse(body)
        if errors:
            log.warning("refused: %s", errors[0].message)
            found = [error.fields() for error in errors]
            refusal = JSONResponse(found if len(found) > 1 else found[0], 400)
            await refusal(request.scope, request.receive, send)
            return
        exchange = _Exchange(body, request.receive, send)
        if message.get("method") == "initialize":
            exchange.name = secrets.token_hex(16)
        if key is None or "method" not in message:
            await self._manager.handle_request(request.scope, exchange.receive, exchange.send)
            return
        if message["method"] == "notifications/cancelled":
            self._cancel(key, message.get("params"))
        number = key, _number(message.get("id"))
        with anyio.CancelScope() as work:
            self._at_work[number] = work
            try:
                await self._manager.handle_request(request.scope, exchange.receive, exchange.send)
            finally:
                if self._at_work.get(number) is work:
                    del self._at_work[number]
        if work.cancelled_caught:
            await exchange.end()

    def _other(self, request: Request, key: ClientKey | None, access: CallerAccess) -> Response:
        """Return what answers a request for notifications (GET), or the end of a session."""
        version = request.headers.get(_VERSION, "")
        known = request.method in ("GET", "DELETE") and version not in MODERN_PROTOCOL_VERSIONS
        if key is None or not known:
            kind = ProblemKind("method-not-allowed", 405)
            return problem(kind, f"only with the header {_SESSION}", headers={"Allow": "POST"})
        if request.method == "DELETE":
            self._subscribers.end(key)
            return Response(status_code=204)
        if not check_accept_headers(request)[1]:
            return problem(ProblemKind("not-acceptable", 406), "a stream is text/event-stream")
        if connection := request.scope["state"].get("connection"):
            connection.spare()  # or clients that only stay connected would keep others out
        events = self._subscribers.stream(
            key,
            access,
            request.headers.get("last-event-id"),
            primes=version >= _PRIMED,
        )
        return StreamingResponse(events, headers=_STREAM, media_type="text/event-stream")

    def _cancel(self, key: ClientKey, params: Any) -> None:
        if isinstance(params, dict):
            work = self._at_work.get((key, _number(params.get("requestId"))))
            if work:
                work.cancel()


class _Exchange:
    """A request that is read already, and its answer; `name` is what the client is called by."""

    def __init__(self, body: bytes, receive: Receive, send: Send) -> None:
        self.name: str | None = None
        self._body: bytes | None = body
        self._receive = receive
        self._send = send
        self._begun = self._complete = False

    async def receive(self) -> Message:
        """Return the body once, and then what else comes: that the client is gone."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Send on, with the client's name in a good answer's headers."""
        if message["type"] == "http.response.start":
            self._begun = True
            if self.name and message["status"] == 200:
                MutableHeaders(scope=message)[_SESSION] = self.name
        elif message["type"] == "http.response.body":
            self._complete = not message.get("more_body", False)
        await self._send(message)

    async def end(self) -> None:
        """Leave a cancelled request without an answer, as the protocol wants it."""
        if not self._begun:
            await self._send({"type": "http.response.start", "status": 202, "headers": []})
        if not self._complete:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _number(value: Any) -> str:
    """Return a request's id as a key: 7 and "7" are not the same."""
    return json.dumps(value) if isinstance(value, str | int) else ""
