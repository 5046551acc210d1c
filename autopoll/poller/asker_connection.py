"""One asker's connection: records in and out, and what ends it."""

import logging
import os
import socket
from typing import Protocol

from autopoll.bridge.poller_protocol import (
    VERSION,
    AskerGreeting,
    FromAsker,
    FromPoller,
    PollerGreeting,
    RecordReader,
    pack,
)
from fifo.exceptions import RemoteFault
from fifo.frame import LINK
from fifo.pipe import Ends
from fifo.wire import Wire

MOST_BUFFERED = 8 << 20  # bytes that wait for an asker that does not read
_BEHIND = 1 << 20  # bytes with which an asker is behind: answers are left to the store

log = logging.getLogger(__name__)


class RecordHandler(Protocol):
    """The server of the connections."""

    newest: int

    def receive(self, connection: "AskerConnection", number: int, record: FromAsker) -> None:
        """Take a record of an asker that has greeted."""

    def forget(self, connection: "AskerConnection") -> None:
        """Forget a connection that is about to be closed, and what it wanted stored."""

    def on_emptied(self) -> None:
        """Go on with what was left out while an asker was behind."""


class AskerConnection:
    """A connection that ends with the first thing wrong with it, and takes nothing else along."""

    def __init__(self, connection: socket.socket, handler: RecordHandler, max_payload: int) -> None:
        self.following: set[int] = set()
        self._handler = handler
        self._largest = max_payload
        self._reader: RecordReader[FromAsker] = RecordReader(FromAsker, max_payload)
        self._greeted = False
        writer = os.dup(connection.fileno())  # first: where it fails the connection is the caller's
        self._wire = Wire(
            Ends(connection.detach(), writer),
            on_data=self._receive,
            on_lost=self._lose,
            on_emptied=handler.on_emptied,
        )

    def send(self, record: FromPoller, number: int = LINK) -> None:
        """Send a record, or cut off an asker that has not read what it was sent before."""
        if self._wire.buffered > MOST_BUFFERED:
            self.close(f"{self._wire.buffered} bytes wait for it to read")
        self._wire.send(*pack(record, number))

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for it to read that answers are better read in the store."""
        return self._wire.buffered > _BEHIND

    def push(self) -> None:
        """Write what was sent since the loop's turn began."""
        if not self._wire.closed:
            self._wire.push()

    def close(self, reason: str = "") -> None:
        """Forget what it wants, then close; tolerated twice."""
        if self._wire.closed:
            return
        if reason:
            log.warning("the connection of an asker was closed: %s", reason)
        self._handler.forget(self)  # first: once it sees the end, nothing of it is stored any more
        self._wire.close()

    def _receive(self, data: bytes) -> None:
        try:
            for number, record in self._reader.records(data):
                if self._wire.closed:
                    return
                if self._greeted:
                    self._handler.receive(self, number, record)
                else:
                    self._greet(record)
        except RemoteFault as error:
            self.close(error.what)

    def _greet(self, record: FromAsker) -> None:
        self.send(PollerGreeting(VERSION, self._handler.newest, self._largest))
        if not isinstance(record, AskerGreeting):
            self.close("it did not greet")
        elif record.version != VERSION:
            self.close(f"it speaks version {record.version}, not {VERSION}; it uses the store")
        self._greeted = True

    def _lose(self, reason: str) -> None:
        self._handler.forget(self)
