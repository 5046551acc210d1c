"""What every request passes before anything looks at it: Host and Origin, and, once somebody reads
its body, size and time of that.

A page in somebody's browser can send requests to this machine, and by DNS rebinding even read the
answers; but the browser names the host it was given, and the origin of the page. So both are
checked on every path, /healthz included, whatever else the request shows.

The size of a body is counted as it comes in: Content-Length is a promise, and may be missing.
"""

import asyncio
import logging
from collections.abc import Callable
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autopoll.gateway.page_paths import is_page
from autopoll.gateway.problems import Refused, response
from autopoll.home.config import GatewaySection

ROOM = 64 << 20  # bytes of all bodies at a time: they are read before it is known whose they are
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

log = logging.getLogger(__name__)


class RequestChecks:
    """ASGI middleware around everything that is served; `audit` gets the reason of a refusal."""

    def __init__(
        self, app: ASGIApp, settings: GatewaySection, audit: Callable[[str], None]
    ) -> None:
        self._app = app
        self._settings = settings
        self._audit = audit
        self._hosts = _hosts(settings)
        self._held = 0  # bytes of the bodies of all requests that are being served
        self._origins = frozenset(origin.lower() for origin in settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = _Body(receive, self._settings, self._hold, headers.get("content-length", ""))
        watched = _Started(send)
        try:
            self._check(headers, scope)
            await self._app(scope, body.receive, watched.send)
        except Refused as error:
            self._refuse(error)
            if not watched.started:
                await response(error)(scope, receive, send)
        else:
            # Something below has caught it, and answered it as an error of its own.
            if body.refused:
                self._refuse(body.refused)
        finally:
            self._held -= body.size

    def _hold(self, size: int) -> None:
        """Count in a part of a body; raise Refused when all bodies together are too much."""
        self._held += size
        if self._held > max(ROOM, self._settings.max_body):
            raise Refused(
                "too-much-at-once", 503, "the gateway is reading too much at once; try again later"
            )

    def _check(self, headers: Headers, scope: Scope) -> None:
        """Raise Refused for a request that no client of ours would send."""
        host = _name_of(headers.get("host", ""))
        if host not in self._hosts:
            raise Refused(
                "wrong-host",
                421,
                "this is not the name of a host that is served here",
                "Use the address it listens on, or name the host in gateway.allowed_hosts.",
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in self._allowed(headers, scope):
            raise Refused(
                "wrong-origin",
                403,
                "pages of this origin may not use this gateway",
                "Name the origin in gateway.allowed_origins.",
            )

    def _allowed(self, headers: Headers, scope: Scope) -> frozenset[str]:
        """Return the origins that may ask; the page's own forms name that which it came from."""
        if not is_page(scope["path"]):
            return self._origins
        return self._origins | {f"{scope['scheme']}://{headers['host'].lower()}"}

    def _refuse(self, error: Refused) -> None:
        log.info("refused: %s", error.kind.name)
        self._audit(error.kind.name)


class _Body:
    """A request's body as it comes in, counted and timed from the first look at it to its end."""

    def __init__(
        self, receive: Receive, settings: GatewaySection, hold: Callable[[int], None], length: str
    ) -> None:
        self._receive = receive
        self._promised = int(length) if length.isascii() and length.isdigit() else 0
        self._limit = settings.max_body
        self._seconds = settings.client_timeout
        self._hold = hold
        self.size = 0
        self._deadline: float | None = None
        self._ended = False
        self.refused: Refused | None = None

    async def receive(self) -> Message:
        if self._ended:  # what comes now is the end of the connection, which may take its time
            return await self._receive()
        if self._promised > self._limit:
            raise self._refuse(too_large(self._limit))
        loop = asyncio.get_running_loop()
        self._deadline = self._deadline or loop.time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise self._refuse(too_slow(self._seconds)) from None
        if message["type"] != "http.request":
            self._ended = True
            return message
        part = len(message.get("body", b""))
        self.size += part
        try:
            self._hold(part)
        except Refused as error:
            raise self._refuse(error) from None
        if self.size > self._limit:
            raise self._refuse(too_large(self._limit))
        self._ended = not message.get("more_body", False)
        return message

    def _refuse(self, error: Refused) -> Refused:
        self._ended = True
        self.refused = error
        return error


class _Started:
    """Remembers whether an answer has begun: then there can be no other."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, message: Message) -> None:
        self.started = True
        await self._send(message)


def too_large(limit: int) -> Refused:
    """Return the error of a body over the limit."""
    return Refused(
        "body-too-large",
        413,
        f"the body is larger than {limit} bytes",
        "Send less, or raise gateway.max_body.",
    )


def too_slow(seconds: float) -> Refused:
    """Return the error of a body that does not come."""
    return Refused("body-too-slow", 408, f"the body did not come within {seconds:g} s")


def _hosts(settings: GatewaySection) -> frozenset[str]:
    """Return every name that may stand in Host, in lower case and without a port."""
    names = {*_LOOPBACK, *(host.lower() for host in settings.allowed_hosts)}
    address = settings.address
    if address.host and not ip_address(address.host).is_unspecified:
        names.add(f"[{address.host}]" if ":" in address.host else address.host)
    return frozenset(names)


def _name_of(host: str) -> str:
    """Return the name in a Host header, in lower case; what is none matches nothing."""
    name, colon, port = host.rpartition(":")
    if not colon or "]" in port:  # an address in brackets without a port
        name, port = host, "0"
    return name.lower() if port.isdigit() or port == "" else ""
