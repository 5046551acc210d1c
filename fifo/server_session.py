"""The server's side of a session: requests come in, progress and one answer each go out."""

from collections.abc import Iterator

import msgspec

from fifo import events
from fifo.events import ServerEvent
from fifo.exceptions import RemoteFault
from fifo.frame import Frame, Type
from fifo.session import VERSIONS, Hello, PairSession, Send, SessionState, Side, Welcome, read

# Looking a member up takes a quarter of a microsecond, with each frame.
_REQUEST, _PROGRESS, _REPLY, _FAILURE = Type.REQUEST, Type.PROGRESS, Type.REPLY, Type.FAILURE


class ServerSession(PairSession[ServerEvent]):
    """The end that answers.

    Requests are known to the caller by a number drawn from `numbers`, which outlives the session:
    a restarted client counts from one again, and an answer to its dead predecessor's request 1 must
    not pass for an answer to its own.
    """

    side = Side.SERVER
    peer = Side.CLIENT

    def __init__(
        self,
        epoch: int,
        send: Send,
        *,
        max_payload: int,
        pid: int,
        credits: int,
        numbers: Iterator[int],
    ) -> None:
        super().__init__(epoch, send, max_payload=max_payload)
        self._pid = pid
        self._credits = credits
        self._numbers = numbers
        self._wire_id: dict[int, int] = {}
        self._number: dict[int, int] = {}

    def progress(self, request_id: int, payload: bytes) -> None:
        """Send a sign of life or a part of the reply."""
        wire_id = self._wire_id.get(request_id)
        if wire_id is not None and self.live:
            self._send(_PROGRESS, wire_id, payload)

    def reply(self, request_id: int, payload: bytes) -> None:
        """End a request well."""
        self._finish(_REPLY, request_id, payload)

    def fail(self, request_id: int, payload: bytes) -> None:
        """End a request badly."""
        self._finish(_FAILURE, request_id, payload)

    def drain(self) -> None:
        """Take nothing new; a client that joins later is welcomed without credits."""
        if self._state is SessionState.OPEN:
            self._send(Type.DRAIN)
        elif self._state is SessionState.FRESH:
            self._credits = 0

    def _finish(self, kind: Type, request_id: int, payload: bytes) -> None:
        wire_id = self._wire_id.get(request_id)
        if wire_id is not None and self.live:
            self._send(kind, wire_id, payload, len(self._number) == 1)
            del self._wire_id[request_id], self._number[wire_id]

    def _take(self, frame: Frame) -> ServerEvent | None:
        if frame.type is not _REQUEST:
            return self._take_other(frame)
        wire_id = frame.request_id
        if wire_id in self._number:
            raise RemoteFault(f"the client sent request {wire_id} while it is in flight")
        if len(self._number) >= self._credits:
            raise RemoteFault(f"the client sent more than its {self._credits} credits allow")
        number = next(self._numbers)
        self._wire_id[number] = wire_id
        self._number[wire_id] = number
        return events.RequestReceived(number, frame.payload)

    def _take_other(self, frame: Frame) -> ServerEvent | None:
        match frame.type:
            case Type.HELLO:
                return self._welcome(read(frame, Hello))
            case Type.CANCEL:
                number = self._number.get(frame.request_id)
                return None if number is None else events.CancelReceived(number)
        raise RemoteFault(f"a {frame.type.name} means nothing to a server")

    def _welcome(self, hello: Hello) -> ServerEvent:
        if hello.version not in VERSIONS:
            raise RemoteFault(
                f"client {hello.pid} wants version {hello.version}, the server speaks {VERSIONS}",
                "Update the older end.",
            )
        welcome = Welcome(
            pid=self._pid,
            max_payload=self._decoder.max_payload,
            credits=self._credits,
            nonce=hello.nonce,
        )
        self._limit = min(self._limit, hello.max_payload)
        self._send(Type.WELCOME, payload=msgspec.json.encode(welcome))
        return events.ClientJoined(hello.pid)
