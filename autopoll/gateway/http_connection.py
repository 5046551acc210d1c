"""One connection of a client: what uvicorn leaves without a bound gets one here.

uvicorn bounds the size of headers and how long a connection may stay idle between two requests.
Nothing in it bounds how long the first request, or the headers of any, may take to come; how long a
client may leave an answer lying; how long one goes on sending what was refused; and who gives way
when there are too many. One look a second at all connections does it, where a timer for each would
be set and cancelled with every request.

No byte that comes puts a deadline off: each counts from the moment at which it became the client's
turn, and ends with a whole request, or a whole answer.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Hashable
from typing import Any, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from autopoll.gateway.admission import Admission, too_many
from autopoll.gateway.authentication import Caller
from autopoll.gateway.problems import Refused, response

IDLE_S = 30  # how long a connection is kept between two requests
STRANGER_IDLE_S = 3  # and as long as no token was shown on it
LINGER_S = 2.0  # for a client to read why it was refused, while it still sends
_UCRED = struct.Struct("3i")  # pid, uid, gid

log = logging.getLogger(__name__)


class ConnectionLimits:
    """What connections may take, and the audit of those that took more."""

    def __init__(self, most: int, seconds: float, audit: Callable[[str], None]) -> None:
        self.admission = Admission(most, audit)
        self.seconds = seconds
        self.audit = audit


class HttpConnection(H11Protocol):
    """A connection within bounds; made by uvicorn, one for each client.

    Requests find it as `connection` in their scope's state, to note whether a token was shown.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
    ) -> None:
        super().__init__(config, server_state, app_state | {"connection": self}, _loop)
        self.timeout_keep_alive = STRANGER_IDLE_S
        self.peer: Hashable = None
        self.proof: tuple[bytes, Caller] | None = None  # the digest of a token, and whose it is
        self._is_spare = False
        self._limits = limits
        self._state = ""  # what it waits for, and since when
        self._since = self.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit a client, or answer that there are too many."""
        super().connection_made(cast("asyncio.Transport", transport))
        self.peer = _peer(transport)
        if not self._limits.admission.enter(self):
            self.evict()

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for another."""
        self._limits.admission.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what a client sends, unless the connection is closing."""
        if not self.transport.is_closing():
            super().data_received(data)
            self._limits.admission.changed(self)

    def on_response_complete(self) -> None:
        """Begin to count again with each request."""
        self._is_spare = False
        self._state, self._since = "", self.loop.time()
        super().on_response_complete()
        self._limits.admission.changed(self)

    def pause_writing(self) -> None:
        """Note that the client does not take what it is sent."""
        super().pause_writing()
        self._limits.admission.changed(self)

    def resume_writing(self) -> None:
        """Note that it takes it again."""
        super().resume_writing()
        self._limits.admission.changed(self)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._limits.audit("not-http")
        self._answer(Refused("malformed", 400, msg, "Send HTTP/1.1."))

    def queue(self) -> None:
        """Count it among those whose token is not looked up yet; raise Refused without room."""
        self._limits.admission.queue(self)

    def prove(self) -> None:
        """Count it among the proven ones, which may stay idle for longer; raise Refused.

        It has made way for another then.
        """
        self._limits.admission.prove(self)
        self.timeout_keep_alive = IDLE_S

    def disprove(self) -> None:
        """Count it as unproven again."""
        self._limits.admission.disprove(self)
        self.timeout_keep_alive = STRANGER_IDLE_S

    def spare(self) -> None:
        """Count it as idle until its request ends, as its client can take it up again."""
        self._is_spare = True
        self._limits.admission.changed(self)

    @property
    def is_ours(self) -> bool:
        """Whether it is our turn; a body is timed by RequestChecks."""
        return not (self.transport.is_closing() or self.is_idle or self._owes())

    @property
    def is_idle(self) -> bool:
        """Whether it is between two requests, for which uvicorn has a limit, or can be spared."""
        return self._is_spare or self.timeout_keep_alive_task is not None

    def evict(self) -> None:
        """Close in favour of another; silently between two requests."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # it would be kept until the client takes what it is sent
        elif self.is_idle:
            self.transport.close()
        else:
            self._answer(too_many())

    def look(self, now: float) -> None:
        """Cut the connection when its client has kept us waiting for too long."""
        state = self._owes()
        seconds = self._limits.seconds
        if state == "refused-body-goes-on":
            seconds = min(seconds, LINGER_S)
        if state != self._state:
            self._state, self._since = state, now
        elif state and now - self._since > seconds:
            log.info("cut: %s", state)
            self._limits.audit(state)
            if state == "headers-too-slow":
                self._answer(Refused(state, 408, "the request did not come in time"))
            else:
                self.transport.abort()

    def _owes(self) -> str:
        """Return what the client owes us; empty when it is our turn, and between two requests.

        A body that is still to come is timed by RequestChecks.
        """
        if self.transport.is_closing() or self.flow.write_paused:
            return "answer-not-taken"
        if self.cycle is None or self.cycle.response_complete:
            if self.conn.their_state is h11.SEND_BODY:
                return "refused-body-goes-on"
            return "" if self.is_idle else "headers-too-slow"
        return ""

    def _answer(self, error: Refused) -> None:
        """Write an error past h11, whose state need not allow it, and close."""
        answer = response(error)
        lines = [f"HTTP/1.1 {error.kind.status} {error.kind.title}", "Connection: close"]
        lines += [f"{name.decode()}: {value.decode()}" for name, value in answer.raw_headers]
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + bytes(answer.body))
        self.transport.close()


def _peer(transport: asyncio.BaseTransport) -> Hashable:
    """Return who is at the other end: a user over a unix socket, else an address."""
    end: socket.socket = transport.get_extra_info("socket")
    if end.family == socket.AF_UNIX:
        credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _, user, _ = _UCRED.unpack(credentials)
        return int(user)
    name: tuple[str, int] | None = transport.get_extra_info("peername")
    return name[0] if name else None
