"""What happens on a link, as its owner is told."""

import msgspec

from fifo.exceptions import FifoError, RemoteFault

# --- to the server


class PairPublished(msgspec.Struct, frozen=True):
    """A fresh pair waits for a client: the moment to ring the client's bell."""

    epoch: int


class PairBroken(msgspec.Struct, frozen=True):
    """No pair can be made now; it is tried again every second, and told once per cause."""

    error: FifoError


class ClientJoined(msgspec.Struct, frozen=True):
    """A client has said HELLO."""

    pid: int


class RequestReceived(msgspec.Struct, frozen=True):
    """A request; the id stands for it in this Server's whole life, whichever client comes next."""

    request_id: int
    payload: bytes


class CancelReceived(msgspec.Struct, frozen=True):
    """The client has lost interest; the request still ends with one reply or failure."""

    request_id: int


class ClientLeft(msgspec.Struct, frozen=True):
    """The client is gone, and its requests with it: what is still answered goes into the void."""

    reason: str


# --- to the client


class Connected(msgspec.Struct, frozen=True):
    """The server has said WELCOME."""

    epoch: int
    pid: int
    credits: int


class Unreachable(msgspec.Struct, frozen=True):
    """Something that waiting alone does not mend is in the way; told once per cause."""

    error: FifoError


class ProgressReceived(msgspec.Struct, frozen=True):
    """A sign of life, or a part of the reply."""

    request_id: int
    payload: bytes


class ReplyReceived(msgspec.Struct, frozen=True):
    """A request has ended well; its credit is free again."""

    request_id: int
    payload: bytes


class FailureReceived(msgspec.Struct, frozen=True):
    """A request has ended badly; its credit is free again."""

    request_id: int
    payload: bytes


class Draining(msgspec.Struct, frozen=True):
    """The server takes nothing new and finishes what it has."""


class Disconnected(msgspec.Struct, frozen=True):
    """The link is gone; the requests in flight will not be answered."""

    reason: str
    in_flight: list[int]


# --- to both


class ProtocolFault(msgspec.Struct, frozen=True):
    """The peer broke the protocol; ClientLeft or Disconnected follows."""

    error: RemoteFault


class PingReceived(msgspec.Struct, frozen=True):
    """The peer asks whether our loop turns; the link answers it itself."""


class PongReceived(msgspec.Struct, frozen=True):
    """The peer's loop turns; the link notes it itself."""


class PeerLeft(msgspec.Struct, frozen=True):
    """The peer has said BYE; the link turns this into ClientLeft or Disconnected."""

    reason: str
    fault: bool  # it blames us


ServerEvent = (
    PairPublished
    | PairBroken
    | ClientJoined
    | RequestReceived
    | CancelReceived
    | ProtocolFault
    | ClientLeft
)
ClientEvent = (
    Connected
    | Unreachable
    | ProgressReceived
    | ReplyReceived
    | FailureReceived
    | Draining
    | ProtocolFault
    | Disconnected
)
