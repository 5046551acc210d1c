"""The end of the pair that owns the folder and answers.

    server = ServerEnd(folder, credits=1, on_event=on_event)
    await server.start()                      # raises AlreadyHeld, UnsafePipe, FolderError
    server.progress(request_id, payload)      # skipped when the buffer is full
    server.reply(request_id, payload)         # exactly one of reply and fail for every request;
    server.fail(request_id, payload)          # dropped when its client is gone; raises TooLarge
    server.drain()
    await server.close()

`on_event` receives each `ServerEvent` of fifo/events.py. It is called on the event loop and may
call any method. `start` may call it; the other methods never do.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from fifo import pair, pipe
from fifo.epoch_lock import Lock
from fifo.events import (
    CancelReceived,
    ClientJoined,
    ClientLeft,
    PairBroken,
    PairPublished,
    PeerLeft,
    ProtocolFault,
    RequestReceived,
    ServerEvent,
)
from fifo.exceptions import FifoError, RemoteFault
from fifo.frame import MAX_PAYLOAD
from fifo.link import BUFFER_LIMIT, Link
from fifo.server_session import ServerSession
from fifo.session import VERSIONS
from fifo.wire import Wire

LOCK_NAME = "worker.lock"
FLUSH_S = 1.0  # how long `close` waits for a peer that does not read
TICK_S = 1.0  # how often a pair that no client uses is checked


class ServerEnd:
    """Owns the folder, the pair and its epoch, and answers one client at a time.

    A pair serves one client and then goes: when the client leaves, dies or breaks the protocol, a
    fresh pair is published under a new epoch. So half a frame goes with the pipe that it is in.
    """

    def __init__(
        self, folder: Path, *, credits: int, on_event: Callable[[ServerEvent], None]
    ) -> None:
        self.folder = folder
        self._credits = credits
        self._on_event = on_event
        self._numbers = count(1)
        self._lock: Lock | None = None  # held from start to close
        self._link: Link[ServerSession] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._joined = False
        self._draining = False
        self._trouble = ""

    async def start(self) -> None:
        """Take the lock and publish a pair; raise AlreadyHeld, UnsafePipe or FolderError."""
        with pipe.explained(self.folder):
            pipe.check_folder(self.folder)
            lock = Lock(self.folder / LOCK_NAME, "the server's end")
        try:
            self._build(lock)
        except FifoError:
            lock.release()
            raise
        self._lock = lock
        self._tick_later()
        self._on_event(PairPublished(lock.epoch))

    def progress(self, request_id: int, payload: bytes) -> None:
        """Send a sign of life or a part of a reply; skipped when the buffer is full."""
        link = self._link
        if link and link.wire.buffered < BUFFER_LIMIT:
            link.session.progress(request_id, payload)

    def reply(self, request_id: int, payload: bytes) -> None:
        """End a request well; raise TooLarge, after which it is still open."""
        if self._link:
            self._link.session.reply(request_id, payload)

    def fail(self, request_id: int, payload: bytes) -> None:
        """End a request badly; raise TooLarge, after which it is still open."""
        if self._link:
            self._link.session.fail(request_id, payload)

    def drain(self) -> None:
        """Take no new requests, from this client or a later one.

        A request that crosses the DRAIN still comes.
        """
        self._draining = True
        if self._link:
            self._link.session.drain()

    async def close(self) -> None:
        """Say BYE, wait a moment until it is written, and remove the pair; allowed at any time."""
        if self._lock is None:
            return
        with ExitStack() as leaving:
            leaving.callback(self._lock.release)
            self._lock = None  # from here on no pair is made and no event is sent
            if self._timer:
                self._timer.cancel()
            if link := self._link:
                leaving.enter_context(pipe.explained(self.folder))
                leaving.callback(pair.remove, self.folder, link.endpoint)
                leaving.callback(link.close)
                link.session.bye("the server closes")
                await link.wire.flush(FLUSH_S)

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
            max_payload=MAX_PAYLOAD,
            pid=os.getpid(),
            credits=self._credits,
            numbers=self._numbers,
        )
        if self._draining:
            session.drain()
        self._link = Link(published, wire, session)

    def _tick_later(self) -> None:
        """Tick at a multiple of TICK_S, when others do too what they do once a second."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at((round(loop.time() / TICK_S) + 1) * TICK_S, self._tick)

    def _tick(self) -> None:
        """Make a fresh pair where the last one was removed or replaced, or could not be made."""
        self._tick_later()
        link = self._link
        usable = link and (link.session.live or pair.intact(self.folder, link.endpoint))
        if not usable:
            self._leave("the pair was damaged")

    def _on_data(self, data: bytes) -> None:
        link = self._link
        if link is None:
            return
        try:
            for event in link.session.receive(data):
                match event:
                    case RequestReceived() | CancelReceived():  # most often
                        self._on_event(event)
                    case PeerLeft():
                        self._leave(event.reason)
                    case ClientJoined():
                        self._joined = True
                        self._on_event(event)
        except RemoteFault as fault:
            link.session.bye(fault.what, fault=True)
            self._on_event(ProtocolFault(fault))
            self._leave(f"protocol error: {fault.what}")

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
            self._on_event(PairPublished(self._lock.epoch))
