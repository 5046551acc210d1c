"""The state of one link between one server and one client; touches no descriptor.

Theory. A session is as long as its pair: one client, one epoch. The client begins. It sends
HELLO, the server sends WELCOME, and from then on the server owes exactly one REPLY or FAILURE for
every REQUEST, in any order. The server ends new work with DRAIN; either end closes with BYE.

Both ends keep the same table. A move is a frame together with the side that sent it, so that one
table judges what we send and what we receive; only the blame differs. Two frames may cross on the
way:

- A REQUEST sent before the DRAIN was read arrives while draining. It is legal, and the server
  answers it like any other. The client sends none afterwards, because it has no credits then.
- Anything sent before the BYE was read arrives on a closed session. It is dropped.

Credits. WELCOME says how many requests the server takes at once. The client spends one with each
REQUEST, and the REPLY or FAILURE brings it back; no frame of its own is needed. A client that
overspends is at fault.

Bytes go in through `receive`, which yields events, and out through the `send` that the session
was given. A frame is built and judged before anything changes: a call that raises has done nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import ClassVar, Generic, TypeVar

import msgspec

from fifo.events import PeerLeft
from fifo.exceptions import LocalFault, ProtocolError, RemoteFault, TooLarge
from fifo.frame import LINK, Decoder, Frame, Type, header

VERSIONS = (1,)  # of the protocol that we speak, the best one last
LEAST_MAX_PAYLOAD = 4096  # the link's own frames must fit as well
_REASON = 500  # characters of a reason that BYE carries

# A frame's header, its payload, and whether it is the last: none can follow for now.
Send = Callable[[bytes, bytes, bool], None]

_Event = TypeVar("_Event")
_Payload = TypeVar("_Payload", bound="Hello | Welcome | Bye")


class Side(StrEnum):
    """The two ends."""

    SERVER = "server"
    CLIENT = "client"


class SessionState(StrEnum):
    """How far a session has come."""

    FRESH = "fresh"
    GREETED = "greeted"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


_FRESH, _GREETED, _OPEN, _DRAINING, _CLOSED = SessionState
_LIVE = (_OPEN, _DRAINING)
_S, _C = Side

MOVES: dict[tuple[SessionState, Side, Type], SessionState] = {
    (_FRESH, _C, Type.HELLO): _GREETED,
    (_GREETED, _S, Type.WELCOME): _OPEN,
    (_OPEN, _S, Type.DRAIN): _DRAINING,
    **{(live, _C, Type.REQUEST): live for live in _LIVE},
    **{(live, _C, Type.CANCEL): live for live in _LIVE},
    **{(live, _S, Type.PROGRESS): live for live in _LIVE},
    **{(live, _S, Type.REPLY): live for live in _LIVE},
    **{(live, _S, Type.FAILURE): live for live in _LIVE},
    **{(state, side, Type.BYE): _CLOSED for state in SessionState for side in Side},
}
# What either side sends and receives most often: the frames that leave the state as it is.
_QUIET: dict[tuple[SessionState, Side], frozenset[Type]] = {
    (state, side): frozenset(kind for kind in Type if MOVES.get((state, side, kind)) is state)
    for state in SessionState
    for side in Side
}


class Hello(msgspec.Struct, frozen=True):
    """The client introduces itself."""

    pid: int
    version: int  # of the protocol: the best of those that the endpoint offers
    max_payload: int  # the largest it takes
    nonce: str


class Welcome(msgspec.Struct, frozen=True):
    """The server accepts the client."""

    pid: int
    max_payload: int
    credits: int
    nonce: str  # of the HELLO that it answers


class Bye(msgspec.Struct, frozen=True):
    """The last frame, with the reason for it."""

    reason: str = ""
    fault: bool = False  # the receiver broke the protocol


class PairSession(ABC, Generic[_Event]):
    """What both sides share: the table, the framing and the BYE."""

    side: ClassVar[Side]
    peer: ClassVar[Side]

    def __init__(self, epoch: int, send: Send, *, max_payload: int) -> None:
        if max_payload < LEAST_MAX_PAYLOAD:
            raise ValueError(f"max_payload {max_payload} is under {LEAST_MAX_PAYLOAD}")
        self.epoch = epoch
        self._enter(_FRESH)
        self._sink = send
        self._decoder = Decoder(max_payload)
        self._limit = max_payload  # what may be sent; the peer's own limit may lower it

    def _enter(self, state: SessionState) -> None:
        self._state = state
        self.live = state in _LIVE  # whether requests and answers may move
        self._own_quiet, self._peers_quiet = _QUIET[state, self.side], _QUIET[state, self.peer]

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
                continue
            if frame.type not in self._peers_quiet:
                self._go(frame.type, self.peer, RemoteFault)
                if self._state is _CLOSED:
                    bye = read(frame, Bye)
                    yield PeerLeft(bye.reason, bye.fault)
                    return
            if event := self._take(frame):
                yield event

    def bye(self, reason: str, *, fault: bool = False) -> None:
        """Send the reason to the peer and close; does nothing on a closed session."""
        if self._state is not _CLOSED:
            self._send(Type.BYE, payload=msgspec.json.encode(Bye(reason[:_REASON], fault)))

    def hang_up(self) -> None:
        """Close without a BYE, because the pipe is gone."""
        self._enter(_CLOSED)

    @abstractmethod
    def _take(self, frame: Frame) -> _Event | None:
        """Return what a frame means to this side; None when nothing is to be passed on."""

    def _send(
        self, kind: Type, request_id: int = LINK, payload: bytes = b"", last: bool = False
    ) -> None:
        if len(payload) > self._limit:
            raise TooLarge(
                f"a payload of {len(payload)} bytes is over the {self._limit} that the link takes",
                "Send less.",
            )
        head = header(kind, self.epoch, request_id, payload)
        if kind not in self._own_quiet:
            self._go(kind, self.side, LocalFault)
        # What else the peer has sent may call for more frames, which then go out together.
        self._sink(head, payload, last and not self._decoder.pending)

    def _go(self, kind: Type, sender: Side, fault: type[ProtocolError]) -> None:
        """Enter the state that follows a move; raise the fault when it may not be made."""
        following = MOVES.get((self._state, sender, kind))
        if following is None:
            raise fault(f"a {sender} may not send {kind.name} when {self._state}")
        self._enter(following)


def read(frame: Frame, kind: type[_Payload]) -> _Payload:
    """Return the payload of a HELLO, WELCOME or BYE; raise RemoteFault when it is none."""
    try:
        return msgspec.json.decode(frame.payload, type=kind)
    except msgspec.MsgspecError as error:
        raise RemoteFault(f"the {frame.type.name} cannot be read: {error}") from error
