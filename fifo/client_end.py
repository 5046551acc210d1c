"""The end of the pair that asks.

    client = ClientEnd(folder, on_event=on_event)
    client.poke()                             # now, every second, and when its bell rings
    client.free, client.connected
    client.request(request_id, payload)       # NotConnected, NoCredit, TooLarge, LocalFault
    client.cancel(request_id)
    client.hang_up(reason)                    # and connect to the pair that is published next
    client.close()

A process that becomes another program by exec(2) hands its links over to it:

    handed = client.hand_over()               # None where there is nothing to go on with
    client.go_on(handed)                      # of the next program, in place of the first poke

`on_event` receives each `ClientEvent` of fifo/events.py. It is called on the event loop and may
call any method. `poke` and `hang_up` may call it; the other methods never do. Every request ends in
exactly one ReplyReceived, FailureReceived or Disconnected, cancelled or not.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from fifo import endpoint, pair, pipe
from fifo.client_session import ClientSession, choose_version
from fifo.epoch_lock import Lock
from fifo.events import (
    ClientEvent,
    Connected,
    Disconnected,
    FailureReceived,
    PeerLeft,
    ProgressReceived,
    ProtocolFault,
    ReplyReceived,
    Unreachable,
)
from fifo.exceptions import FifoError, NoCredit, NotConnected, RemoteFault
from fifo.frame import MAX_PAYLOAD
from fifo.handed_link import HandedLink
from fifo.link import BUFFER_LIMIT, Link
from fifo.pipe import Ends
from fifo.wire import Wire

LOCK_NAME = "client.lock"
# After a broken protocol both ends would rebuild and meet again within a millisecond, for ever.
PAUSE_S = 1.0


class ClientEnd:
    """Connects to whatever pair its server has published, and asks."""

    def __init__(self, folder: Path, *, on_event: Callable[[ClientEvent], None]) -> None:
        self.folder = folder
        self._on_event = on_event
        self._lock: Lock | None = None
        self._link: Link[ClientSession] | None = None
        self._not_before = 0.0
        self._joined = False
        self._trouble = ""
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether the server has welcomed us and is there."""
        return self._link is not None and self._link.session.live

    @property
    def free(self) -> int:
        """How many requests may be sent now; 0 while the server is gone, drains or reads slowly."""
        link = self._link
        if link is None or link.wire.buffered >= BUFFER_LIMIT:
            return 0
        return link.session.free

    def poke(self) -> None:
        """Connect if there is a server to connect to, and notice when it has been replaced.

        Raises nothing: a server that is not there yet is no error, and what waiting does not mend
        becomes an Unreachable.
        """
        if self._closed:
            return
        try:
            with pipe.explained(self.folder):
                self._look()
        except FifoError as error:
            self._report(error)

    def request(self, request_id: int, payload: bytes) -> None:
        """Send a request; raise NotConnected, NoCredit, TooLarge, or LocalFault on a used id."""
        link = self._link
        if link is None:
            raise NotConnected(f"no server serves {self.folder} now", "Wait for Connected.")
        if link.wire.buffered >= BUFFER_LIMIT:
            raise NoCredit(
                f"{link.wire.buffered} bytes wait for the server of {self.folder} to read",
                "Wait until `free` is above 0.",
            )
        link.session.request(request_id, payload)

    def cancel(self, request_id: int) -> None:
        """Ask the server to stop a request, which still ends with one event; ignores ended ones."""
        if self._link and self.connected:
            self._link.session.cancel(request_id)

    def hang_up(self, reason: str) -> None:
        """Give up this server's pair, and with it whatever it owes us; it makes a fresh one."""
        if self._link:
            self._link.session.bye(reason)
            self._leave(reason)

    def hand_over(self) -> HandedLink | None:
        """Return the link for the program that this process becomes; None where none is open.

        Nothing may be called between this and the exec.
        """
        link, lock = self._link, self._lock
        if link is None or lock is None or not link.session.live:
            return None
        link.wire.push()
        return HandedLink(
            endpoint=link.endpoint,
            reader=link.wire.ends.reader,
            writer=link.wire.ends.writer,
            lock=lock.descriptor,
            session=link.session.hand_over(),
            unsent=link.wire.unsent,
        )

    def go_on(self, handed: HandedLink) -> None:
        """Go on with a link that the program before has handed over."""
        self._lock = Lock.inherited(handed.lock)
        wire = Wire(
            Ends(handed.reader, handed.writer), on_data=self._on_data, on_lost=self._on_lost
        )
        session = ClientSession(handed.endpoint.epoch, wire.send, max_payload=MAX_PAYLOAD)
        session.go_on(handed.session)
        self._link = Link(handed.endpoint, wire, session)
        self._joined = True
        wire.send(handed.unsent, b"")

    def close(self) -> None:
        """Say BYE and let the pair go; in any state, any number of times, without an event."""
        self._closed = True
        if self._link:
            self._link.session.bye("the client closes")
            self._link.close()
            self._link = None
            self._joined = False
        if self._lock:
            self._lock.release()
            self._lock = None

    def _look(self) -> None:
        published = endpoint.read(self.folder)
        if self._link:
            replaced = published is not None and published != self._link.endpoint
            if not replaced and self._link.endpoint.alive():
                return
            # Here because a descriptor that a child of the server inherited hides the hang-up.
            self._link.wire.finish("its process was replaced" if replaced else "its process ended")
        if self._closed:  # by `on_event`, just now
            return
        if published is None or time.monotonic() < self._not_before or not published.alive():
            return
        version = choose_version(published.versions)
        if self._lock is None:
            self._lock = Lock(self.folder / LOCK_NAME, "the client's end")
        if self._lock.epoch == published.epoch:
            pair.knock(self.folder, published)
            return
        self._lock.record(published.epoch)  # before the first use: from now on it counts as used
        if ends := pair.join(self.folder, published):
            wire = Wire(ends, on_data=self._on_data, on_lost=self._on_lost)
            session = ClientSession(published.epoch, wire.send, max_payload=MAX_PAYLOAD)
            self._link = Link(published, wire, session)
            session.hello(os.getpid(), version)

    def _on_data(self, data: bytes) -> None:
        link = self._link
        if link is None:
            return
        try:
            for event in link.session.receive(data):
                match event:
                    case ReplyReceived() | ProgressReceived() | FailureReceived():  # most often
                        self._on_event(event)
                    case PeerLeft():
                        self._leave(event.reason, fault=event.fault)
                    case Connected():
                        self._joined = True
                        self._trouble = ""
                        self._on_event(event)
                    case _:
                        self._on_event(event)
        except RemoteFault as fault:
            link.session.bye(fault.what, fault=True)
            self._on_event(ProtocolFault(fault))
            self._leave(f"protocol error: {fault.what}", fault=True)

    def _on_lost(self, reason: str) -> None:
        if self._link:
            self._leave(self._link.lost(reason))

    def _leave(self, reason: str, *, fault: bool = False) -> None:
        """Let the server go; the next poke looks for a new one."""
        link, self._link = self._link, None
        if link is None:
            return
        in_flight = link.session.in_flight
        link.close()
        if fault:
            self._not_before = time.monotonic() + PAUSE_S
        if self._joined:
            self._joined = False
            self._on_event(Disconnected(reason, in_flight))
        elif fault:
            self._report(NotConnected(f"the server of {self.folder} refuses us: {reason}"))

    def _report(self, error: FifoError) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            self._on_event(Unreachable(error))
