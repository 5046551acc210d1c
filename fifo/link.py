"""One pair in use, as the end of either side holds it."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from fifo.client_session import ClientSession
from fifo.endpoint import Endpoint
from fifo.server_session import ServerSession
from fifo.wire import Wire

BUFFER_LIMIT = 4 * 1024 * 1024  # bytes that wait for room in the pipe

SessionT = TypeVar("SessionT", bound=ServerSession | ClientSession)


@dataclass(frozen=True)
class Link(Generic[SessionT]):
    """What was published, the descriptors, and the state of the session."""

    endpoint: Endpoint
    wire: Wire
    session: SessionT

    def close(self) -> None:
        """Close the descriptors and the session."""
        self.wire.close()
        self.session.hang_up()

    def lost(self, reason: str) -> str:
        """Return the reason, and whether the peer was lost in the middle of a frame."""
        torn = self.session.torn
        return f"{reason}, {torn} bytes into a frame" if torn else reason
