"""A link to the poller, which may break at any time: the store is always behind it.

While there is none, it is tried again whenever its owner waits. Questions that are followed are
followed again over the next one.
"""

import select
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

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
    QuestionUnknown,
    RecordReader,
    error_of,
    pack,
)
from autopoll.bridge.records import SURE_S, Arrival, SentMessage, Stored
from autopoll.errors import AccessDenied
from autopoll.home.home import Home
from autopoll.process.poller_socket import connected
from fifo.exceptions import RemoteFault
from fifo.frame import LINK

RETRY_S = 0.25  # between two tries to connect
OTHER_VERSION_S = 10.0  # between two tries where the poller speaks another version
PATIENCE_S = SURE_S + 0.5  # for the poller's word, before a question is stored without it
_TRIES = 3  # connections that break before questions are stored without the poller
_READ = 256 * 1024
_SENT_AT_ONCE = 64 * 1024
_FOLLOWED_AT_ONCE = 5000  # ids in one record: less than any poller takes


class PollerLink(ABC):
    """Used as a context manager, by one thread.

    With `follow` it receives how its questions go on; with `pieces`, also their answers in parts.
    """

    def __init__(self, home: Home, *, follow: bool = True, pieces: bool = False) -> None:
        self.also: int | None = None  # a descriptor that ends a wait when it can be read
        self.trouble = ""  # why this program and the poller do not understand each other
        self._path = home.poller_socket
        self._follow_stored = follow
        self._pieces = pieces
        self._socket: socket.socket | None = None
        self._retry_at = 0.0  # when a wait connects again
        self._draining = False
        self._newest = 0  # number of a message that is older than all that will be stored
        self._last_sent = 0.0
        self._gave_up = False  # we have closed it, and the poller may still read what we sent
        self._number = LINK
        self._unknown: dict[int, Arrival] = {}  # by number: not known to be stored or refused
        self._outcomes: dict[int, Stored | Arrival] = {}
        self._followed: dict[int, bool] = {}  # with pieces or without

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    @abstractmethod
    def on_stored(self, message_id: int, arrival: Arrival) -> None:
        """Take the number of a question that was stored just now."""

    @abstractmethod
    def on_news(self, news: QuestionNews | AnswerText) -> None:
        """Take what the poller says of a question that is followed."""

    @property
    def is_open(self) -> bool:
        """Tell whether there is a poller at the other end, hung or not."""
        return self._socket is not None

    # --- storing

    def store(
        self, arrivals: Sequence[Arrival], token: str | None = None
    ) -> list[Stored | Arrival]:
        """Have questions stored; in place of what becomes of one, itself where that is not known.

        It is to be stored without the poller then, and knows whether it may have been already. The
        token proves their session, where that is not done yet; what it does not prove is left too.
        """
        first = self._number + 1
        self._number += len(arrivals)
        self._unknown, self._outcomes = dict(enumerate(arrivals, first)), {}
        self._gave_up = False
        end = time.monotonic() + PATIENCE_S
        for _ in range(_TRIES):
            if not self._unknown or self._draining or not self.opens_before(end):
                break
            self._send_unknown(token, end)
            while self._unknown and self._socket and time.monotonic() < end:
                self._receive(end - time.monotonic())
            if self._unknown and self._socket:
                self._give_up()
            for number, arrival in self._unknown.items():
                repeated = arrival.repeated or arrival.sent_at is not None
                self._unknown[number] = msgspec.structs.replace(arrival, repeated=repeated)
        if self._unknown and self._gave_up:
            self._outlast()
        return [(self._outcomes | self._unknown)[first + each] for each in range(len(arrivals))]

    def _outlast(self) -> None:
        """Wait until the poller, too, looks whether what was sent to it is stored already."""
        time.sleep(max(0.0, self._last_sent + SURE_S - time.monotonic()))

    def _send_unknown(self, token: str | None, end: float) -> None:
        assert self._greeting
        together = bytearray()  # so that the poller meets them in one turn
        for number, arrival in list(self._unknown.items()):
            after = arrival.after if arrival.repeated else self._newest
            sent_at = time.monotonic()
            sent = msgspec.structs.replace(arrival, after=after, sent_at=sent_at)
            request = AskRequest(sent, token, self._follow_stored, self._pieces)
            head, payload = pack(request, number)
            if len(payload) > self._greeting.largest:  # the store says what is wrong with it
                self._outcomes[number] = self._unknown.pop(number)
                continue
            self._last_sent = sent_at
            self._unknown[number] = sent
            together += head + payload
            if len(together) >= _SENT_AT_ONCE:
                if not self._send(together, end):
                    return
                together.clear()
        self._send(together, end)

    # --- waiting

    def follow(self, ids: Iterable[int], *, pieces: bool = False) -> None:
        """Receive how these questions go on; with `pieces`, once more what there is so far."""
        pieces = pieces or self._pieces
        new = {each: pieces for each in ids if pieces or each not in self._followed}
        self._followed |= new
        if new and self._socket:
            self._follow(new, time.monotonic() + PATIENCE_S)

    def wait(self, seconds: float) -> bool:
        """Return when there is news of any question, or after the time; tell which."""
        end = time.monotonic() + max(0.0, seconds)
        while True:
            most = seconds
            if self._socket is None and (
                time.monotonic() < self._retry_at or not self._connect(end, self.also)
            ):
                most = RETRY_S
            ready = self._ready(min(most, end - time.monotonic()), self.also)
            if self._socket and self._socket.fileno() in ready and self._receive(0.0):
                return True
            if self.also in ready or time.monotonic() >= end:
                return False

    # --- the connection

    def opens_before(self, end: float) -> bool:
        """Connect, if need be; tell whether that worked in time."""
        return time.monotonic() < end and (self._socket is not None or self._connect(end))

    def _connect(self, end: float, also: int | None = None) -> bool:
        """Connect and greet; tell whether that worked in time, and before `also` can be read."""
        now = time.monotonic()
        if self.trouble and now < self._retry_at:
            return False
        end = min(end, now + PATIENCE_S)  # it may be hung, or accept nobody
        self._socket, self._draining = connected(self._path, max(0.01, end - now)), False
        if self._socket is None:
            return False
        self._reader: RecordReader[FromPoller] = RecordReader(FromPoller)
        self._greeting: PollerGreeting | None = None
        self._send(b"".join(pack(AskerGreeting(VERSION))), end)
        ready: set[int] = set()
        while self._socket and not self._greeting and time.monotonic() < end and also not in ready:
            ready = self._ready(end - time.monotonic(), also)
            self._receive(0.0)
        if self._greeting is None or self.trouble:
            self._close()
            return False
        self._follow(self._followed, end)
        return self._socket is not None

    def _follow(self, wanted: dict[int, bool], end: float) -> None:
        for pieces in (False, True):
            ids = [each for each, with_pieces in wanted.items() if with_pieces is pieces]
            for first in range(0, len(ids), _FOLLOWED_AT_ONCE):
                some = ids[first : first + _FOLLOWED_AT_ONCE]
                self._send(b"".join(pack(FollowRequest(some, pieces))), end)

    def _close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None
            self._retry_at = time.monotonic() + (OTHER_VERSION_S if self.trouble else RETRY_S)

    def _give_up(self) -> None:
        """Close what seems to be hung."""
        self._gave_up = True
        self._close()

    def _send(self, frames: bytes | bytearray, end: float) -> bool:
        """Send records; close, and tell so, when they cannot be sent in time."""
        if self._socket is None:
            return False
        try:
            self._socket.settimeout(max(0.01, end - time.monotonic()))
            self._socket.sendall(frames)
        except OSError as error:
            self._gave_up |= isinstance(error, TimeoutError)
            self._close()
            return False
        return True

    def _receive(self, seconds: float) -> bool:
        """Take what comes within the time, and tell whether there was news; close at the end."""
        if not self._socket or not self._ready(seconds):
            return False
        data, news = b"", False
        with suppress(OSError):  # then it is over, as at the end
            data = self._socket.recv(_READ)
        try:
            for number, record in self._reader.records(data):
                news = self._take(number, record) or news
            if not data:
                self._close()
        except RemoteFault:
            self._give_up()
        return news

    def _ready(self, seconds: float, also: int | None = None) -> set[int]:
        """Return which of the connection and another descriptor can be read within the time."""
        poll = select.poll()
        for descriptor in (self._socket and self._socket.fileno(), also):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        return {descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)}

    def _take(self, number: int, record: FromPoller) -> bool:
        """Take one record; tell whether it is news of a question, or that there is none."""
        match record:
            case QuestionNews(query=query) if query.message_id in self._followed:
                if query.settled_at is not None:
                    del self._followed[query.message_id]
                self.on_news(record)
                return True
            case AnswerText(id=message_id) if message_id in self._followed:
                self.on_news(record)
                return True
            case QuestionUnknown(id=message_id):
                self._followed.pop(message_id, None)
                return True
            case QuestionStored(id=message_id, fresh=fresh):
                if arrival := self._unknown.pop(number, None):
                    self._outcomes[number] = SentMessage(id=message_id, fresh=fresh)
                    if fresh:  # what is sent from now on gets a greater number
                        self._newest = max(self._newest, message_id)
                    if self._follow_stored:
                        self._followed.setdefault(message_id, self._pieces)
                        self.on_stored(message_id, arrival)
            case QuestionRefused():
                if arrival := self._unknown.pop(number, None):
                    error = error_of(record)
                    # A token may have expired; one that the home keeps is replaced in the store.
                    self._outcomes[number] = arrival if isinstance(error, AccessDenied) else error
            case PollerDraining():
                self._draining = True
                if number in self._unknown:
                    self._outcomes[number] = self._unknown.pop(number)
            case PollerGreeting():
                self._greeting, self._newest = record, record.newest
                spoken = f"version {record.version} of its protocol, this program {VERSION}"
                self.trouble = f"the poller speaks {spoken}" if record.version != VERSION else ""
        return False
