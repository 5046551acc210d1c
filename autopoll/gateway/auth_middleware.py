"""Turns away requests without a good token, before path, query and body are looked at.

Without a token, or with one that opens nothing, the answer is 401 on every path but the public
ones, and no byte of the body is read. What is for the operator only is refused (403) just as early.
The proof is made once for each connection and token; the use-cases prove it again in their own turn
of the bridge, so that a token that was revoked meanwhile does nothing. Only PROOFS_AT_ONCE are made
at a time, so that a flood of wrong tokens does not fill the queue of the bridge's thread: whoever
has proven a token waits for no more than these. The others queue, and keep nobody out who comes
after them: when there are too many, the first of them makes way.
"""

import asyncio
import hashlib
import re
from typing import Protocol

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autopoll.errors import AutopollError
from autopoll.gateway.audit import Audit
from autopoll.gateway.authentication import Caller, bearer, without_token
from autopoll.gateway.hub import Hub
from autopoll.gateway.page_paths import is_page
from autopoll.gateway.problems import response
from autopoll.gateway.usecases import UseCases, by_token

# A proof takes 0.2 ms of the bridge's thread, and two or three turns of the loop. In each of these
# come as many connections as Admission takes at once: with fewer proofs a crowd's queue only grows.
PROOFS_AT_ONCE = 64
PUBLIC = ("/healthz", "/readyz", "/openapi.json")
_METRICS = "/metrics"
_OPERATION = re.compile(
    r"/metrics|/v1/(status|shards(/.*)?|hosts|queue|incidents|conversations|dead-letters(/.*)?)",
    re.DOTALL,
)
_CONVERSATION = re.compile(r"/v1/conversations/([^/]+)")


class ProvableConnection(Protocol):
    """A connection as it is proven here."""

    proof: tuple[bytes, Caller] | None

    def queue(self) -> None:
        """Note that a token is shown on it, to be looked up; raise Refused without room."""
        ...

    def prove(self) -> None:
        """Note that its token is good; raise Refused when it has made way meanwhile."""
        ...

    def disprove(self) -> None:
        """Note that its token opens nothing, or is not looked up."""
        ...


class AuthMiddleware:
    """ASGI middleware around everything that is served, within RequestChecks."""

    def __init__(self, app: ASGIApp, hub: Hub, audit: Audit) -> None:
        self._app = app
        self._hub = hub
        self._audit = audit
        self._proofs = asyncio.Semaphore(PROOFS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request with a good token, or answer why not."""
        if scope["type"] != "http" or _is_public(scope):
            await self._app(scope, receive, send)
            return
        connection: ProvableConnection = scope["state"]["connection"]
        try:
            await self._prove(Request(scope), connection)
        except AutopollError as error:
            await response(error)(scope, receive, send)
            return

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                _forget(connection)
            await send(message)

        await self._app(scope, receive, watched)

    async def _prove(self, request: Request, connection: ProvableConnection) -> None:
        """Raise AccessDenied, Forbidden, or Refused when too many ask."""
        token, path = bearer(request), request.url.path
        if not token:
            self._audit("no token")
            raise without_token()
        named = _CONVERSATION.match(path)
        access = by_token(self._hub, token, named[1] if named else None)
        digest = hashlib.sha256(token.encode()).digest()
        if connection.proof is None or connection.proof[0] != digest:
            _forget(connection)
            connection.queue()
            try:
                async with self._proofs:
                    caller = await access.call(lambda use: use.caller)
                connection.prove()
                connection.proof = digest, caller
            finally:
                if connection.proof is None:
                    connection.disprove()
        if not connection.proof[1].is_operator and _OPERATION.fullmatch(path):
            await access.call(UseCases.require_operator)


def _forget(connection: ProvableConnection) -> None:
    connection.proof = None
    connection.disprove()


def _is_public(scope: Scope) -> bool:
    """Tell whether anybody may ask for this; through a private socket comes the owner only."""
    if scope["path"] == _METRICS:
        return is_private(scope)
    return scope["path"] in PUBLIC or is_page(scope["path"])


def is_private(scope: Scope) -> bool:
    """Tell whether a request came through a unix socket."""
    return bool(scope["server"]) and scope["server"][1] is None
