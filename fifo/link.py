"""The two ends of the pair: `Server` owns the folder and answers, `Client` asks.

    server = Server(folder, credits=1, on_event=on_event)
    await server.start()                      # raises AlreadyHeld, UnsafePipe, FolderError
    server.epoch, server.connected, server.counts
    server.progress(request_id, payload)      # skipped when the buffer is full
    server.reply(request_id, payload)         # exactly one of reply and fail for every request;
    server.fail(request_id, payload)          # into the void when its client is gone; TooLarge
    server.drain()
    await server.close()

    client = Client(folder, on_event=on_event)
    client.poke()                             # now, every second, and when its bell rings
    client.free, client.epoch, client.connected, client.lost_pings, client.last_pong, client.counts
    client.request(request_id, payload)       # NotConnected, NoCredit, TooLarge, LocalFault
    client.cancel(request_id)
    client.ping()
    client.hang_up(reason)                    # and take up whatever pair is published next
    client.close()

Events are in `fifo.events` and importable from here. `on_event` is called on the event loop and
never from inside `request`, `cancel`, `ping`, `reply`, `fail`, `progress`, `drain` or `close`;
`start`, `poke` and `hang_up` may call it. It may call any method. Every request ends in exactly one
ReplyReceived, FailureReceived or Disconnected, cancelled or not.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Generic, TypeVar

from fifo import endpoint, pair, pipe
from fifo.endpoint import Endpoint
from fifo.epoch_lock import Lock
from fifo.events import (
    CancelReceived,
    ClientEvent,
    ClientJoined,
    ClientLeft,
    Connected,
    Disconnected,
    Draining,
    FailureReceived,
    PairBroken,
    PairPublished,
    PeerLeft,
    PingReceived,
    PongReceived,
    ProgressReceived,
    ProtocolFault,
    ReplyReceived,
    RequestReceived,
    ServerEvent,
    Unreachable,
)
from fifo.exceptions import FifoError, NoCredit, NotConnected, RemoteFault
from fifo.frame import MAX_PAYLOAD
from fifo.session import VERSIONS, ClientSession, Counts, ServerSession, choose_version
from fifo.wire import Wire

__all__ = [
    "CancelReceived",
    "Client",
    "ClientEvent",
    "ClientJoined",
    "ClientLeft",
    "Connected",
    "Disconnected",
    "Draining",
    "FailureReceived",
    "PairBroken",
    "PairPublished",
    "ProgressReceived",
    "ProtocolFault",
    "ReplyReceived",
    "RequestReceived",
    "Server",
    "ServerEvent",
    "Unreachable",
]

SERVER_LOCK = "worker.lock"
CLIENT_LOCK = "client.lock"
BUFFER_LIMIT = 4 * 1024 * 1024
FLUSH_S = 1.0  # how long a farewell waits for a peer that does not read
TICK_S = 1.0  # how often the server looks after a pair that nobody uses
# After a broken protocol both ends would rebuild and meet again within a millisecond, for ever.
PAUSE_S = 1.0


_Session = TypeVar("_Session", bound="ServerSession | ClientSession")


@dataclass(frozen=True)
class _Link(Generic[_Session]):
    """One pair in use: what was published, the descriptors, and how far the two have come."""

    endpoint: Endpoint
    wire: Wire
    session: _Session

    def close(self) -> None:
        self.wire.close()
        self.session.hang_up()

    def lost(self, reason: str) -> str:
        """Say how the peer was lost."""
        torn = self.session.torn
        return f"{reason}, {torn} bytes into a frame" if torn else reason


class Server:
    """The end that owns the folder, the pair and its epoch, and answers one client at a time.

    A pair serves one client and then goes: when the client leaves, dies or breaks the protocol, a
    fresh pair is published under a new epoch. So half a frame dies with the pipe it is in.
    """

    def __init__(
        self,
        folder: Path,
        *,
        credits: int,
        on_event: Callable[[ServerEvent], None],
        max_payload: int = MAX_PAYLOAD,
        buffer_limit: int = BUFFER_LIMIT,
    ) -> None:
        self.folder = folder
        self.counts = Counts()
        self.epoch = 0  # of the latest pair
        self._credits = credits
        self._on_event = on_event
        self._max_payload = max_payload
        self._buffer_limit = buffer_limit
        self._numbers = count(1)
        self._lock: Lock | None = None  # held from start to close
        self._link: _Link[ServerSession] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._joined = False
        self._draining = False
        self._trouble = ""

    @property
    def connected(self) -> bool:
        """Whether a client is there."""
        return self._link is not None and self._link.session.live

    async def start(self) -> None:
        """Take the lock and publish a pair; raise AlreadyHeld, UnsafePipe or FolderError."""
        with pipe.explained(self.folder):
            pipe.check_folder(self.folder)
            lock = Lock(self.folder / SERVER_LOCK, "the server's end")
        try:
            self._build(lock)
        except FifoError:
            lock.release()
            raise
        self._lock = lock
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self._on_event(PairPublished(self.epoch))

    def progress(self, request_id: int, payload: bytes) -> None:
        """Send a sign of life or a part of a reply; skipped when the buffer is full."""
        if link := self._towards_client():
            if link.wire.buffered < self._buffer_limit:
                link.session.progress(request_id, payload)
            else:
                self.counts.skipped += 1

    def reply(self, request_id: int, payload: bytes) -> None:
        """End a request well; raise TooLarge, after which it is still open."""
        if link := self._towards_client():
            link.session.reply(request_id, payload)

    def fail(self, request_id: int, payload: bytes) -> None:
        """End a request badly; raise TooLarge, after which it is still open."""
        if link := self._towards_client():
            link.session.fail(request_id, payload)

    def drain(self) -> None:
        """Take nothing new, from this client or a later one; a request that crosses still comes."""
        self._draining = True
        if self._link:
            self._link.session.drain()

    async def close(self) -> None:
        """Say goodbye, wait a moment until it is written, remove the pair; may come at any time."""
        if self._lock is None:
            return
        with ExitStack() as leaving:
            leaving.callback(self._lock.release)
            self._lock = None  # from here on nothing is rebuilt and nothing is told
            if self._timer:
                self._timer.cancel()
            if link := self._link:
                leaving.enter_context(pipe.explained(self.folder))
                leaving.callback(pair.remove, self.folder, link.endpoint)
                leaving.callback(link.close)
                link.session.bye("the server closes")
                await link.wire.flush(FLUSH_S)

    def _towards_client(self) -> _Link[ServerSession] | None:
        """Return the link while its client is there; what goes nowhere is counted."""
        link = self._link
        if link is not None and link.session.live:
            return link
        self.counts.void += 1
        return None

    def _build(self, lock: Lock) -> None:
        """Make a fresh pair under a new epoch."""
        with pipe.explained(self.folder):
            pipe.check_folder(self.folder)
            # The clock alone may be set back; the last epoch alone goes with the folder.
            lock.record(max(lock.epoch + 1, time.time_ns() // 1_000_000))
            published, ends = pair.create(self.folder, lock.epoch, list(VERSIONS))
        wire = Wire(ends, on_data=self._on_data, on_lost=self._on_lost)
        session = ServerSession(
            lock.epoch,
            wire.send,
            max_payload=self._max_payload,
            counts=self.counts,
            pid=os.getpid(),
            credits=self._credits,
            numbers=self._numbers,
        )
        if self._draining:
            session.drain()
        self.epoch = lock.epoch
        self._link = _Link(published, wire, session)

    def _tick(self) -> None:
        """See that a client can come in: make anew what was removed, replaced or not to be had."""
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        usable = self._link and pair.intact(self.folder, self._link.endpoint)
        if not usable and not self.connected:
            self._leave("the pair was damaged")

    def _on_data(self, data: bytes) -> None:
        link = self._link
        if link is None:
            return
        try:
            for event in link.session.receive(data):
                self._on_session_event(link, event)
        except RemoteFault as error:
            link.session.bye(error.what, fault=True)
            self._on_event(ProtocolFault(error))
            self._leave(f"protocol error: {error.what}")

    def _on_session_event(
        self, link: _Link[ServerSession], event: ServerEvent | PingReceived | PeerLeft
    ) -> None:
        match event:
            case RequestReceived() | CancelReceived():  # first, as it comes most often
                self._on_event(event)
            case PingReceived():
                # A client that pings and does not read must not make the buffer grow.
                if link.wire.buffered < self._buffer_limit:
                    link.session.pong()
            case PeerLeft():
                self._leave(event.reason)
            case ClientJoined():
                self._joined = True
                self._on_event(event)

    def _on_lost(self, reason: str) -> None:
        if self._link:
            self._leave(self._link.lost(reason))

    def _leave(self, reason: str) -> None:
        """Let the client go, and make a fresh pair for the next one."""
        if self._lock is None:
            return
        if self._link:
            self._link.close()
            self._link = None
        if self._joined:
            self._joined = False
            self._on_event(ClientLeft(reason))
        try:
            self._build(self._lock)
        except FifoError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._on_event(PairBroken(error))
        else:
            self._trouble = ""
            self._on_event(PairPublished(self.epoch))


class Client:
    """The end that asks; connects to whatever pair its server has published."""

    def __init__(
        self,
        folder: Path,
        *,
        on_event: Callable[[ClientEvent], None],
        max_payload: int = MAX_PAYLOAD,
        buffer_limit: int = BUFFER_LIMIT,
    ) -> None:
        self.folder = folder
        self.counts = Counts()
        self.lost_pings = 0  # asked for since the last PONG, beyond the one that is on its way
        self.last_pong: float | None = None  # time.monotonic()
        self._on_event = on_event
        self._max_payload = max_payload
        self._buffer_limit = buffer_limit
        self._lock: Lock | None = None
        self._link: _Link[ClientSession] | None = None
        self._not_before = 0.0
        self._joined = False
        self._pinged = False
        self._trouble = ""
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether the server has welcomed us and is there."""
        return self._link is not None and self._link.session.live

    @property
    def epoch(self) -> int | None:
        """The epoch of the pair we are connected to."""
        return self._link.endpoint.epoch if self._link and self.connected else None

    @property
    def free(self) -> int:
        """How many requests may be sent now; 0 while the server is gone, drains or reads slowly."""
        link = self._link
        if link is None or link.wire.buffered >= self._buffer_limit:
            return 0
        return link.session.free

    def poke(self) -> None:
        """Connect if there is a server to connect to, and notice when it has been replaced.

        Raises nothing: a server that is not there yet is no error, and what waiting does not mend
        is told as Unreachable.
        """
        if self._closed:
            return
        try:
            with pipe.explained(self.folder):
                self._look()
        except FifoError as error:
            self._tell(error)

    def request(self, request_id: int, payload: bytes) -> None:
        """Send a request; raise NotConnected, NoCredit, TooLarge, or LocalFault on a used id."""
        link = self._link
        if link is None or not link.session.live:
            raise NotConnected(f"no server serves {self.folder} now", "Wait for Connected.")
        if link.wire.buffered >= self._buffer_limit:
            raise NoCredit(
                f"{link.wire.buffered} bytes wait for the server of {self.folder} to read",
                "Wait until `free` is above 0.",
            )
        link.session.request(request_id, payload)

    def cancel(self, request_id: int) -> None:
        """Ask the server to stop a request, which still ends with one event; ignores ended ones."""
        if self._link and self.connected:
            self._link.session.cancel(request_id)

    def ping(self) -> None:
        """Ask whether the server's loop turns; while the last PING is unanswered, count it lost."""
        if not self._link or not self.connected:
            return
        if self._pinged:
            self.lost_pings += 1
        else:
            self._pinged = True
            self._link.session.ping()

    def hang_up(self, reason: str) -> None:
        """Give up this server's pair, and with it whatever it owes us; it makes a fresh one."""
        if self._link:
            self._link.session.bye(reason)
            self._leave(reason)

    def close(self) -> None:
        """Say goodbye and let the pair go; in any state, any number of times. Tells no event."""
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
        if self._closed:  # by who was told just now
            return
        if published is None or time.monotonic() < self._not_before or not published.alive():
            return
        version = choose_version(published.versions)
        if self._lock is None:
            self._lock = Lock(self.folder / CLIENT_LOCK, "the client's end")
        if self._lock.epoch == published.epoch:
            pair.knock(self.folder, published)
            return
        self._lock.record(published.epoch)  # before the first use: from now on it counts as used
        if ends := pair.join(self.folder, published):
            wire = Wire(ends, on_data=self._on_data, on_lost=self._on_lost)
            session = ClientSession(
                published.epoch, wire.send, max_payload=self._max_payload, counts=self.counts
            )
            self._link = _Link(published, wire, session)
            self._pinged = False
            self.lost_pings = 0
            session.hello(os.getpid(), version)

    def _on_data(self, data: bytes) -> None:
        link = self._link
        if link is None:
            return
        try:
            for event in link.session.receive(data):
                self._on_session_event(event)
        except RemoteFault as error:
            link.session.bye(error.what, fault=True)
            self._on_event(ProtocolFault(error))
            self._leave(f"protocol error: {error.what}", fault=True)

    def _on_session_event(self, event: ClientEvent | PongReceived | PeerLeft) -> None:
        match event:
            case ReplyReceived() | ProgressReceived() | FailureReceived():  # what comes most often
                self._on_event(event)
            case PongReceived():
                self._pinged = False
                self.lost_pings = 0
                self.last_pong = time.monotonic()
            case PeerLeft():
                self._leave(event.reason, fault=event.fault)
            case _:
                if isinstance(event, Connected):
                    self._joined = True
                    self._trouble = ""
                self._on_event(event)

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
            self._tell(NotConnected(f"the server of {self.folder} refuses us: {reason}"))

    def _tell(self, error: FifoError) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            self._on_event(Unreachable(error))
