"""What happens on a link: the events that `on_event` of either end receives."""

import msgspec

from fifo.exceptions import FifoError, RemoteFault

# --- at the server


class PairPublished(msgspec.Struct, frozen=True):
    """A fresh pair waits for a client: the moment to ring the client's bell."""

    epoch: int


class PairBroken(msgspec.Struct, frozen=True):
    """No pair can be made now; it is tried again every second, and reported once per cause."""

    error: FifoError


class ClientJoined(msgspec.Struct, frozen=True):
    """A client has sent HELLO."""

    pid: int


class RequestReceived(msgspec.Struct, frozen=True):
    """A request; the id is valid as long as this ServerEnd, whichever client comes next."""

    request_id: int
    payload: bytes


class CancelReceived(msgspec.Struct, frozen=True):
    """The client asks to stop a request, which still ends with one reply or failure."""

    request_id: int


class ClientLeft(msgspec.Struct, frozen=True):
    """The client is gone, and its requests with it: answers to them are dropped."""

    reason: str


# --- at the client


class Connected(msgspec.Struct, frozen=True):
    """The server has sent WELCOME."""

    epoch: int
    pid: int
    credits: int


class Unreachable(msgspec.Struct, frozen=True):
    """Something that waiting alone does not mend is in the way; reported once per cause."""

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


class DrainReceived(msgspec.Struct, frozen=True):
    """The server takes nothing new and finishes what it has."""


class Disconnected(msgspec.Struct, frozen=True):
    """The link is gone; the requests in flight will not be answered."""

    reason: str
    in_flight: list[int]


# --- at both


class ProtocolFault(msgspec.Struct, frozen=True):
    """The peer broke the protocol; ClientLeft or Disconnected follows."""

    error: RemoteFault


class PeerLeft(msgspec.Struct, frozen=True):
    """The peer has sent BYE; the end turns this into ClientLeft or Disconnected."""

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
    | DrainReceived
    | ProtocolFault
    | Disconnected
)
