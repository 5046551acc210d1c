"""The one connection of a process to the poller, on its loop; the store is always behind it."""

import asyncio
import logging
import os
import socket
import time
from typing import Protocol

import msgspec

from autopoll.bridge.poller_protocol import (
    VERSION,
    AnswerText,
    AskerGreeting,
    AskRequest,
    FollowRequest,
    FromPoller,
    PollerDraining,
    PollerGreeting,
    QuestionNews,
    QuestionRefused,
    QuestionStored,
    RecordReader,
    error_of,
    pack,
)
from autopoll.bridge.records import SURE_S, Arrival, SentMessage, Stored
from autopoll.client.poller_connection import PATIENCE_S
from autopoll.home.home import Home
from autopoll.process import role
from autopoll.process.poller_socket import short_address
from fifo.exceptions import RemoteFault
from fifo.frame import LINK
from fifo.pipe import Ends
from fifo.wire import Wire

log = logging.getLogger(__name__)


class NewsListener(Protocol):
    """Whoever wants to know how questions go on."""

    def on_connected(self) -> None:
        """Follow again what is followed: there is a new connection."""

    def on_news(self, news: QuestionNews | AnswerText) -> None:
        """Take what the poller says of a question."""


class PollerLink:
    """Made again whenever it breaks; `look` is to be called once a second."""

    def __init__(self, home: Home, listener: NewsListener) -> None:
        self.is_open = False  # greeted, and not draining
        self._path = home.poller_socket
        self._listener = listener
        self._wire: Wire | None = None
        self._greeted = asyncio.Event()
        self._connected_at = 0.0
        self._newest = 0
        self._number = LINK
        self._replies: dict[int, asyncio.Future[Stored | None]] = {}
        self._gave_up = False  # we have closed it, and the poller may still read what we sent
        self._trouble = ""  # why this program and the poller do not understand each other

    def look(self) -> None:
        """Connect where there is no connection, and give up one that does not greet."""
        if self._wire is None:
            self._connect()
        elif not self._greeted.is_set() and time.monotonic() > self._connected_at + PATIENCE_S:
            self._close(gave_up=True)

    def close(self) -> None:
        """Close; whoever waits for a question to be stored stores it without the poller."""
        self._close(gave_up=False)

    async def store(self, arrival: Arrival) -> Stored | Arrival:
        """Have a question stored; return itself where it is to be stored without the poller.

        It knows then whether it may have been stored already.
        """
        end, sent_at = time.monotonic() + PATIENCE_S, 0.0
        while await self._opens_before(end):
            sent_at = time.monotonic()
            sent = msgspec.structs.replace(
                arrival,
                after=arrival.after if arrival.repeated else self._newest,
                sent_at=sent_at,
            )
            arrival = msgspec.structs.replace(sent, repeated=True)
            reply = await self._reply(AskRequest(sent, pieces=False))
            if reply is not None:
                return reply
        if self._gave_up:  # until the poller, too, looks whether it is stored
            await asyncio.sleep(max(0.0, sent_at + SURE_S - time.monotonic()))
        return arrival

    def follow(self, ids: list[int], *, pieces: bool) -> None:
        """Be told how questions stand, now and as that changes."""
        if ids and self._wire:
            self._wire.send(*pack(FollowRequest(ids, pieces)))

    async def _reply(self, request: AskRequest) -> Stored | None:
        """Return what became of a question; None where the connection did not live to say so."""
        assert self._wire
        self._number += 1
        number = self._number
        reply: asyncio.Future[Stored | None] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        self._wire.send(*pack(request, number))
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await reply
        except TimeoutError:
            self._close(gave_up=True)
            return None
        finally:
            self._replies.pop(number, None)

    async def _opens_before(self, end: float) -> bool:
        """Tell whether there is a connection before then; at once where there can be none."""
        if self._wire is None and not self._connect():
            return False
        await role.wait(self._greeted, max(0.0, end - time.monotonic()))
        return self.is_open

    # --- the connection

    def _connect(self) -> bool:
        """Connect and greet; tell whether a greeting may come."""
        if self._trouble:
            return False
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            with short_address(self._path) as address:
                found.connect(address)
        except OSError:
            found.close()
            return False
        descriptor = found.detach()
        self._greeted, self._connected_at = asyncio.Event(), time.monotonic()
        self._reader: RecordReader[FromPoller] = RecordReader(FromPoller)
        ends = Ends(descriptor, os.dup(descriptor))
        self._wire = Wire(ends, on_data=self._receive, on_lost=self._lose)
        self._wire.send(*pack(AskerGreeting(VERSION)))
        return True

    def _close(self, *, gave_up: bool) -> None:
        self._gave_up = gave_up
        if self._wire:
            self._wire.close()
        self._lose("")

    def _lose(self, reason: str) -> None:
        self._wire, self.is_open = None, False
        self._greeted.set()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_result(None)

    def _receive(self, data: bytes) -> None:
        try:
            for number, record in self._reader.records(data):
                self._take(number, record)
        except RemoteFault as error:
            log.warning("the poller sent what is no record: %s", error.what)
            self._close(gave_up=True)

    def _take(self, number: int, record: FromPoller) -> None:
        match record:
            case QuestionNews() | AnswerText():
                self._listener.on_news(record)
            case QuestionStored(id=message_id, fresh=fresh):
                self._settle(number, SentMessage(id=message_id, fresh=fresh))
            case QuestionRefused():
                self._settle(number, error_of(record))
            case PollerDraining():
                self.is_open = False
                self._settle(number, None)
            case PollerGreeting(version=version, newest=newest):
                self._on_greeting(version, newest)

    def _on_greeting(self, version: int, newest: int) -> None:
        if version != VERSION:
            self._trouble = (
                f"the poller speaks version {version} of its protocol, this program {VERSION}"
            )
            log.warning("%s: questions go by way of the store", self._trouble)
            self._close(gave_up=False)
            return
        self._newest, self.is_open, self._gave_up = newest, True, False
        self._greeted.set()
        self._listener.on_connected()

    def _settle(self, number: int, stored: Stored | None) -> None:
        reply = self._replies.get(number)
        if reply and not reply.done():
            reply.set_result(stored)
