"""One connection of a client: what uvicorn leaves without a bound gets one here.

uvicorn bounds the size of headers and how long a connection may stay idle between two requests.
Nothing in it bounds how long the first request, or the headers of any, may take to come; how long a
client may leave an answer lying; how long one goes on sending what was refused; and connections
beyond the limit are let in to be told so. One look a second at all connections does it, where a
timer for each would be set and cancelled with every request.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from autopoll.gateway.problems import MEDIA_TYPE, Kind, problem

log = logging.getLogger(__name__)


class Bounds:
    """What connections may take, and whom to tell of those that took more."""

    def __init__(self, most: int, seconds: float, audit: Callable[[str], None]) -> None:
        self.most = most
        self.seconds = seconds
        self.audit = audit


class Connection(H11Protocol):
    """A connection within bounds; made by uvicorn, one for each client."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        bounds: Bounds,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = bounds
        self._state = ""  # what it waits for, and since when
        self._since = self.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let a client in, or tell it that there are too many."""
        super().connection_made(cast("asyncio.Transport", transport))
        if len(self.connections) > self._bounds.most:
            self._bounds.audit("too-many-connections")
            self._tell(Kind("too-many-connections", 503), "too many connections; try again later")

    def data_received(self, data: bytes) -> None:
        """Take what a client sends, unless it has been told to go."""
        if not self.transport.is_closing():
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Tell that what was sent is not HTTP."""
        self._bounds.audit("not-http")
        self._tell(Kind("malformed", 400), msg)

    def look(self, now: float) -> None:
        """Cut the connection when its client has kept us waiting for too long."""
        state = self._waits_for()
        if state != self._state:
            self._state, self._since = state, now
        elif state and now - self._since > self._bounds.seconds:
            log.info("cut: %s", state)
            self._bounds.audit(state)
            if state == "headers-too-slow":
                self._tell(Kind(state, 408), "the request did not come in time")
            else:
                self.transport.abort()

    def _waits_for(self) -> str:
        """Return what the client owes us; empty when it is our turn, or its body, which the guard
        times."""
        if self.transport.is_closing():
            return "answer-not-taken"
        if self.flow.write_paused:
            return "answer-not-taken"
        if self.cycle is None or self.cycle.response_complete:
            if self.conn.their_state is h11.SEND_BODY:
                return "refused-body-goes-on"
            # After an answer uvicorn's own limit of idleness holds, until the next request begins.
            return "" if self.timeout_keep_alive_task else "headers-too-slow"
        return ""

    def _tell(self, kind: Kind, detail: str) -> None:
        """Write an error past h11, whose state need not allow it, and close."""
        told = problem(kind, detail, headers={"Connection": "close"})
        lines = [f"HTTP/1.1 {kind.status} {kind.title}", f"Content-Type: {MEDIA_TYPE}"]
        lines += [f"Content-Length: {len(told.body)}", "Connection: close", "", ""]
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write("\r\n".join(lines).encode() + bytes(told.body))
        self.transport.close()
