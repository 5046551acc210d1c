"""The state of one link between one server and one client; touches no descriptor.

Theory. A session is as long as its pair: one client, one epoch. The client speaks first. It says
HELLO, the server says WELCOME, and from then on the server owes exactly one REPLY or FAILURE for
every REQUEST, in any order. The server ends new work with DRAIN; either end closes with BYE.

Both ends keep the same table. A move is a frame together with who sent it, so that one table
judges what we send and what we are sent; only the blame differs. Two frames may cross on the way:

- A REQUEST sent before the DRAIN was read arrives while draining. It is legal, and the server
  answers it like any other. That the client sends none afterwards is the matter of its credits.
- Anything sent before the BYE was read arrives on a closed session. It is dropped.

Credits. WELCOME says how many requests the server takes at once. The client spends one with each
REQUEST, and the REPLY or FAILURE brings it back; no frame of its own is needed. A client that
overspends is at fault.

Bytes go in through `receive`, which yields events, and out through the `send` that the session
was given. A frame is built and judged before anything changes: a call that raises has done nothing.
"""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Generic, TypeVar

import msgspec

from fifo import events
from fifo.events import ClientEvent, PeerLeft, PingReceived, PongReceived, ServerEvent
from fifo.exceptions import LocalFault, NoCredit, NotConnected, ProtocolError, RemoteFault, TooLarge
from fifo.frame import LINK, Decoder, Frame, Type, header

VERSIONS = (1,)  # of the protocol that we speak, the best one last
LEAST_MAX_PAYLOAD = 4096  # the link's own frames must fit as well
_REASON = 500  # characters of a reason that BYE carries

# A frame's header, its payload, and whether it is the last word: none can follow for now.
Send = Callable[[bytes, bytes, bool], None]

_Event = TypeVar("_Event")
_Payload = TypeVar("_Payload", bound="Hello | Welcome | Bye")


class Side(StrEnum):
    """The two ends."""

    SERVER = "server"
    CLIENT = "client"


class State(StrEnum):
    """How far a session has come."""

    FRESH = "fresh"
    GREETED = "greeted"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


_C, _S = Side.CLIENT, Side.SERVER
_LIVE = (State.OPEN, State.DRAINING)
# Looking a member up takes a quarter of a microsecond, with each frame.
_OPEN, _CLOSED = State.OPEN, State.CLOSED
_REQUEST, _PROGRESS, _REPLY, _FAILURE = Type.REQUEST, Type.PROGRESS, Type.REPLY, Type.FAILURE

MOVES: dict[tuple[State, Side, Type], State] = {
    (State.FRESH, _C, Type.HELLO): State.GREETED,
    (State.GREETED, _S, Type.WELCOME): State.OPEN,
    (State.OPEN, _S, Type.DRAIN): State.DRAINING,
    **{(live, _C, Type.REQUEST): live for live in _LIVE},
    **{(live, _C, Type.CANCEL): live for live in _LIVE},
    **{(live, _C, Type.PING): live for live in _LIVE},
    **{(live, _S, Type.PROGRESS): live for live in _LIVE},
    **{(live, _S, Type.REPLY): live for live in _LIVE},
    **{(live, _S, Type.FAILURE): live for live in _LIVE},
    **{(live, _S, Type.PONG): live for live in _LIVE},
    **{(state, side, Type.BYE): State.CLOSED for state in State for side in Side},
}
_ROWS: dict[tuple[State, Side], dict[Type, State]] = {(s, e): {} for s in State for e in Side}
for (_state, _side, _kind), _following in MOVES.items():
    _ROWS[_state, _side][_kind] = _following


@dataclass
class Counts:
    """What was dropped without harm, over all sessions of an end."""

    stale: int = 0  # frames of another epoch
    late: int = 0  # frames for a request that has ended
    void: int = 0  # answers to a client that is gone
    skipped: int = 0  # progress that found the buffer full


class Hello(msgspec.Struct, frozen=True):
    """The client introduces itself."""

    pid: int
    version: int  # of the protocol: the best of those that the endpoint offers
    max_payload: int  # the largest it takes
    nonce: str


class Welcome(msgspec.Struct, frozen=True):
    """The server takes the client on."""

    pid: int
    max_payload: int
    credits: int
    nonce: str  # of the HELLO that it answers


class Bye(msgspec.Struct, frozen=True):
    """The last frame, with the reason for it."""

    reason: str = ""
    fault: bool = False  # the receiver broke the protocol


class Session(Generic[_Event]):
    """What both sides share: the table, the framing and the farewell."""

    side: ClassVar[Side]
    peer: ClassVar[Side]

    def __init__(self, epoch: int, send: Send, *, max_payload: int, counts: Counts) -> None:
        if max_payload < LEAST_MAX_PAYLOAD:
            raise ValueError(f"max_payload {max_payload} is under {LEAST_MAX_PAYLOAD}")
        self.epoch = epoch
        self._enter(State.FRESH)
        self.counts = counts
        self._sink = send
        self._decoder = Decoder(max_payload)
        self._limit = max_payload  # what may be sent; the peer's own limit may lower it

    @property
    def state(self) -> State:
        """How far it has come."""
        return self._state

    def _enter(self, state: State) -> None:
        self._state = state
        self.live = state in _LIVE  # whether requests and answers may move
        self._own_moves, self._peers_moves = _ROWS[state, self.side], _ROWS[state, self.peer]

    @property
    def torn(self) -> int:
        """How many bytes of an unfinished frame have come."""
        return self._decoder.pending

    def receive(self, data: bytes) -> Iterator[_Event | PeerLeft]:
        """Yield what the bytes mean; raise RemoteFault on what the peer may not send."""
        self._decoder.feed(data)
        for frame in self._decoder.frames():
            if self._state is _CLOSED:
                return
            if frame.epoch != self.epoch:
                self.counts.stale += 1
                continue
            following = self._peers_moves.get(frame.type)
            if following is not self._state:
                self._go(following, RemoteFault, self.peer, frame.type)
            if following is _CLOSED:
                bye = _read(frame, Bye)
                yield PeerLeft(bye.reason, bye.fault)
            elif event := self._take(frame):
                yield event

    def bye(self, reason: str, *, fault: bool = False) -> None:
        """Close, and tell the peer why; does nothing on a closed session."""
        if self._state is not _CLOSED:
            self._send(Type.BYE, payload=msgspec.json.encode(Bye(reason[:_REASON], fault)))

    def hang_up(self) -> None:
        """Close without a word, because the pipe is gone."""
        self._enter(_CLOSED)

    def _take(self, frame: Frame) -> _Event | None:
        raise NotImplementedError

    def _send(
        self, kind: Type, request_id: int = LINK, payload: bytes = b"", last: bool = False
    ) -> None:
        if len(payload) > self._limit:
            raise TooLarge(
                f"a payload of {len(payload)} bytes is over the {self._limit} that the link takes",
                "Send less, or raise max_payload at both ends.",
            )
        head = header(kind, self.epoch, request_id, payload)
        following = self._own_moves.get(kind)
        if following is not self._state:
            self._go(following, LocalFault, self.side, kind)
        # What else the peer has sent may call for more words, which then go out together.
        self._sink(head, payload, last and not self._decoder.pending)

    def _go(
        self, following: State | None, fault: type[ProtocolError], sender: Side, kind: Type
    ) -> None:
        """Enter the state that follows a move; raise the fault when it may not be made."""
        if following is None:
            raise fault(f"a {sender} may not send {kind.name} when {self._state}")
        self._enter(following)


class ServerSession(Session[ServerEvent | PingReceived]):
    """The end that answers.

    Requests are known to the caller by a number drawn from `numbers`, which outlives the session:
    a client that starts anew counts from one again, and an answer to its dead predecessor's
    request 1 must not pass for an answer to its own.
    """

    side = Side.SERVER
    peer = Side.CLIENT

    def __init__(
        self,
        epoch: int,
        send: Send,
        *,
        max_payload: int,
        counts: Counts,
        pid: int,
        credits: int,
        numbers: Iterator[int],
    ) -> None:
        super().__init__(epoch, send, max_payload=max_payload, counts=counts)
        self._pid = pid
        self._credits = credits
        self._numbers = numbers
        self._wire_id: dict[int, int] = {}
        self._number: dict[int, int] = {}

    def progress(self, request_id: int, payload: bytes) -> None:
        """Send a sign of life or a part of the reply."""
        if (wire_id := self._known(request_id)) is not None:
            self._send(_PROGRESS, wire_id, payload)

    def reply(self, request_id: int, payload: bytes) -> None:
        """End a request well."""
        self._finish(_REPLY, request_id, payload)

    def fail(self, request_id: int, payload: bytes) -> None:
        """End a request badly."""
        self._finish(_FAILURE, request_id, payload)

    def pong(self) -> None:
        """Answer a PING."""
        self._send(Type.PONG)

    def drain(self) -> None:
        """Take nothing new; a client that is yet to come is welcomed without credits."""
        if self._state is _OPEN:
            self._send(Type.DRAIN)
        elif self._state is State.FRESH:
            self._credits = 0

    def _finish(self, kind: Type, request_id: int, payload: bytes) -> None:
        if (wire_id := self._known(request_id)) is not None:
            self._send(kind, wire_id, payload, len(self._number) == 1)
            del self._wire_id[request_id], self._number[wire_id]

    def _known(self, request_id: int) -> int | None:
        wire_id = self._wire_id.get(request_id)
        if wire_id is None or not self.live:
            self.counts.void += 1
            return None
        return wire_id

    def _take(self, frame: Frame) -> ServerEvent | PingReceived | None:
        if frame.type is _REQUEST:
            return self._accept(frame.request_id, frame.payload)
        match frame.type:
            case Type.HELLO:
                return self._welcome(_read(frame, Hello))
            case Type.CANCEL:
                if (number := self._number.get(frame.request_id)) is not None:
                    return events.CancelReceived(number)
                self.counts.late += 1
                return None
            case _:
                return PingReceived()

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

    def _accept(self, wire_id: int, payload: bytes) -> ServerEvent:
        if wire_id in self._number:
            raise RemoteFault(f"the client sent request {wire_id} while it is in flight")
        if len(self._number) >= self._credits:
            raise RemoteFault(f"the client sent more than its {self._credits} credits allow")
        number = next(self._numbers)
        self._wire_id[number] = wire_id
        self._number[wire_id] = number
        return events.RequestReceived(number, payload)


_Answer = events.ProgressReceived | events.ReplyReceived | events.FailureReceived
_ANSWERS: dict[Type, type[_Answer]] = {
    _PROGRESS: events.ProgressReceived,
    _REPLY: events.ReplyReceived,
    _FAILURE: events.FailureReceived,
}


class ClientSession(Session[ClientEvent | PongReceived]):
    """The end that asks."""

    side = Side.CLIENT
    peer = Side.SERVER

    def __init__(self, epoch: int, send: Send, *, max_payload: int, counts: Counts) -> None:
        super().__init__(epoch, send, max_payload=max_payload, counts=counts)
        self._credits = 0
        self._nonce = secrets.token_hex(8)
        self._in_flight: dict[int, bool] = {}  # whether its CANCEL was sent

    @property
    def free(self) -> int:
        """How many requests the server takes now."""
        return self._credits - len(self._in_flight) if self._state is _OPEN else 0

    @property
    def in_flight(self) -> list[int]:
        """The requests that have not ended, in the order they were sent."""
        return list(self._in_flight)

    def hello(self, pid: int, version: int) -> None:
        """Open the session."""
        hello = Hello(
            pid=pid,
            version=version,
            max_payload=self._decoder.max_payload,
            nonce=self._nonce,
        )
        self._send(Type.HELLO, payload=msgspec.json.encode(hello))

    def request(self, request_id: int, payload: bytes) -> None:
        """Ask; raise NotConnected, NoCredit, TooLarge, or LocalFault when the id is in flight."""
        if not self.live:
            raise NotConnected("the link is not open", "Wait for Connected.")
        free = self.free
        if free < 1:
            raise NoCredit("the server takes no more for now", "Wait until `free` is above 0.")
        if request_id in self._in_flight:
            raise LocalFault(f"request {request_id} is in flight already")
        self._send(_REQUEST, request_id, payload, free == 1)
        self._in_flight[request_id] = False

    def cancel(self, request_id: int) -> None:
        """Ask to stop a request; does nothing when it has ended or was cancelled before."""
        if self._in_flight.get(request_id) is False:
            self._send(Type.CANCEL, request_id)
            self._in_flight[request_id] = True

    def ping(self) -> None:
        """Ask whether the server's loop turns."""
        self._send(Type.PING)

    def _take(self, frame: Frame) -> ClientEvent | PongReceived | None:
        told = _ANSWERS.get(frame.type)
        if told is None:
            return self._heed(frame)
        if frame.request_id not in self._in_flight:
            self.counts.late += 1
            return None
        if frame.type is not _PROGRESS:
            del self._in_flight[frame.request_id]
        return told(frame.request_id, frame.payload)

    def _heed(self, frame: Frame) -> ClientEvent | PongReceived:
        """Take what is about the link, and no request."""
        match frame.type:
            case Type.WELCOME:
                return self._begin(_read(frame, Welcome))
            case Type.DRAIN:
                return events.Draining()
            case _:
                return PongReceived()

    def _begin(self, welcome: Welcome) -> ClientEvent:
        if welcome.nonce != self._nonce:
            raise RemoteFault("the WELCOME answers another client's HELLO")
        self._credits = welcome.credits
        self._limit = min(self._limit, welcome.max_payload)
        return events.Connected(self.epoch, welcome.pid, welcome.credits)


def choose_version(offered: list[int]) -> int:
    """Return the best version that both speak; raise NotConnected when there is none."""
    common = [version for version in VERSIONS if version in offered]
    if not common:
        raise NotConnected(
            f"the server speaks versions {offered} of the protocol, the client {list(VERSIONS)}",
            "Update the older end.",
        )
    return common[-1]


def _read(frame: Frame, kind: type[_Payload]) -> _Payload:
    try:
        return msgspec.json.decode(frame.payload, type=kind)
    except msgspec.MsgspecError as error:
        raise RemoteFault(f"the {frame.type.name} cannot be read: {error}") from error
