"""The client's side of a session: requests go out under credits, answers come in."""

import secrets

import msgspec

from fifo import events
from fifo.events import ClientEvent
from fifo.exceptions import LocalFault, NoCredit, NotConnected, RemoteFault
from fifo.frame import Frame, Type
from fifo.session import VERSIONS, Hello, PairSession, Send, SessionState, Side, Welcome, read

# Looking a member up takes a quarter of a microsecond, with each frame.
_REQUEST, _PROGRESS, _OPEN = Type.REQUEST, Type.PROGRESS, SessionState.OPEN

_Answer = events.ProgressReceived | events.ReplyReceived | events.FailureReceived
_ANSWERS: dict[Type, type[_Answer]] = {
    _PROGRESS: events.ProgressReceived,
    Type.REPLY: events.ReplyReceived,
    Type.FAILURE: events.FailureReceived,
}


class HandedSession(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an open session, as one program hands it to the next."""

    draining: bool
    credits: int
    limit: int  # bytes of a payload that the server takes
    in_flight: dict[int, bool]  # requests, and whether their CANCEL was sent
    unread: bytes  # of a frame that has not come whole


class ClientSession(PairSession[ClientEvent]):
    """The end that asks."""

    side = Side.CLIENT
    peer = Side.SERVER

    def __init__(self, epoch: int, send: Send, *, max_payload: int) -> None:
        super().__init__(epoch, send, max_payload=max_payload)
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

    def hand_over(self) -> HandedSession:
        """Return how the session stands, for the program that goes on with it."""
        return HandedSession(
            draining=self._state is SessionState.DRAINING,
            credits=self._credits,
            limit=self._limit,
            in_flight=dict(self._in_flight),
            unread=self._decoder.unread,
        )

    def go_on(self, handed: HandedSession) -> None:
        """Stand as the session did that was handed over; to be called on a fresh one."""
        self._credits, self._limit = handed.credits, handed.limit
        self._in_flight = dict(handed.in_flight)
        self._decoder.feed(handed.unread)
        self._enter(SessionState.DRAINING if handed.draining else _OPEN)

    def request(self, request_id: int, payload: bytes) -> None:
        """Ask; raise NotConnected, NoCredit, TooLarge, or LocalFault when the id is in flight."""
        in_flight = self._in_flight
        free = self._credits - len(in_flight)
        if free < 1 or self._state is not _OPEN:
            if not self.live:
                raise NotConnected("the link is not open", "Wait for Connected.")
            raise NoCredit("the server takes no more for now", "Wait until `free` is above 0.")
        if request_id in in_flight:
            raise LocalFault(f"request {request_id} is in flight already")
        self._send(_REQUEST, request_id, payload, free == 1)
        in_flight[request_id] = False

    def cancel(self, request_id: int) -> None:
        """Ask to stop a request; does nothing when it has ended or was cancelled before."""
        if self._in_flight.get(request_id) is False:
            self._send(Type.CANCEL, request_id)
            self._in_flight[request_id] = True

    def _take(self, frame: Frame) -> ClientEvent | None:
        kind, request_id = frame.type, frame.request_id
        if answer := _ANSWERS.get(kind):
            if request_id not in self._in_flight:
                return None
            if kind is not _PROGRESS:
                del self._in_flight[request_id]
            return answer(request_id, frame.payload)
        match kind:
            case Type.WELCOME:
                return self._begin(read(frame, Welcome))
            case Type.DRAIN:
                return events.DrainReceived()
        raise RemoteFault(f"a {kind.name} means nothing to a client")

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
