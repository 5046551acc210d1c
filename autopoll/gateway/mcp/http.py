"""MCP over HTTP, at /mcp of the gateway: streamable HTTP, with the checks and tokens of REST."""

import json
import logging
import secrets
from types import TracebackType
from typing import Any, Self

import anyio
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from autopoll.errors import AutopollError
from autopoll.gateway.authentication import bearer
from autopoll.gateway.hub import Hub
from autopoll.gateway.mcp.mcp_server import make_server
from autopoll.gateway.mcp.rpc import parse
from autopoll.gateway.problems import response
from autopoll.gateway.usecases import CallerAccess, by_token

PATH = "/mcp"
HEADERS = ("MCP-Protocol-Version", "Mcp-Session-Id", "Mcp-Method", "Mcp-Name")  # of its requests
_SESSION = "mcp-session-id"

log = logging.getLogger(__name__)


class McpEndpoint:
    """An ASGI application, used as an async context manager for as long as it is open.

    It keeps no sessions: each request is proven by its own token and carried out by itself, so that
    a client notices nothing of a restart of the gateway. Closing a request's connection ends it.

    Clients of the handshake era cancel by another request instead, that names the first by a number
    which only means something together with the client. So each is given a name at its handshake,
    under the header of a session; any name is welcome, also one of a gateway before this one.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._manager = StreamableHTTPSessionManager(
            make_server(hub, _access_of),
            stateless=True,
            max_request_body_size=hub.config.gateway.max_body,
        )
        self._open = self._manager.run()
        self._at_work: dict[tuple[str, str, str], anyio.CancelScope] = {}

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
        """Pass on a request that shows a token."""
        request = Request(scope, receive)
        access = by_token(self._hub, bearer(request))
        try:
            whose = await access.call(lambda use: use.caller.scope)
        except AutopollError as error:
            await response(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["access"] = access
        body = await request.body()
        message, errors = parse(body)
        if errors:
            log.warning("refused: %s", errors[0].message)
            found = [error.fields() for error in errors]
            refusal = JSONResponse(found if len(found) > 1 else found[0], 400)
            await refusal(scope, receive, send)
            return
        exchange = _Exchange(body, receive, send)
        name = request.headers.get(_SESSION)
        if message.get("method") == "initialize":
            exchange.name = secrets.token_hex(16)
        if name is None or "method" not in message:
            await self._manager.handle_request(scope, exchange.receive, exchange.send)
            return
        if message["method"] == "notifications/cancelled":
            self._cancel(whose, name, message.get("params"))
        key = (whose, name, _number(message.get("id")))
        with anyio.CancelScope() as work:
            self._at_work[key] = work
            try:
                await self._manager.handle_request(scope, exchange.receive, exchange.send)
            finally:
                if self._at_work.get(key) is work:
                    del self._at_work[key]
        if work.cancelled_caught:
            await exchange.end()

    def _cancel(self, whose: str, name: str, params: Any) -> None:
        if isinstance(params, dict):
            work = self._at_work.get((whose, name, _number(params.get("requestId"))))
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


def _access_of(request: Request) -> CallerAccess:
    access = request.state.access
    assert isinstance(access, CallerAccess)
    return access


def _number(value: Any) -> str:
    """Return a request's id as a key: 7 and "7" are not the same."""
    return json.dumps(value) if isinstance(value, str | int) else ""
