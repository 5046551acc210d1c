"""An asker's connection to the poller, which may break at any time: the store is always behind it.

While there is none, it is tried again whenever its owner waits. Questions that were followed are
followed again on the next one.
"""

import select
import socket
import stat
import time
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
    FromAsker,
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
from autopoll.bridge.records import SURE_S, Arrival, QueryState, SentMessage, Stored
from autopoll.client.answer_pieces import AnswerPiece, AnswerPieces
from autopoll.home.home import Home
from autopoll.process.poller_socket import short_address
from fifo.exceptions import RemoteFault
from fifo.frame import LINK

RETRY_S = 0.25  # between two tries to connect
PATIENCE_S = SURE_S + 0.5  # for the poller's word, before a question is stored without it
_READ = 256 * 1024


class PollerConnection:
    """Used as a context manager, by one thread; with `pieces`, answers come as they are written."""

    def __init__(self, home: Home, *, pieces: bool = False) -> None:
        self.also: int | None = None  # a descriptor that ends a wait when it can be read
        self.trouble = ""  # why this program and the poller do not understand each other
        self._path = home.poller_socket
        self._with_pieces = pieces
        self._socket: socket.socket | None = None
        self._draining = False
        self._newest = 0
        self._last_sent = 0.0
        self._gave_up = False  # we have closed it, and the poller may still read what we sent
        self._number = LINK
        self._replies: dict[int, Stored] = {}
        self._given_back: set[int] = set()  # numbers of what the poller will not store
        self._followed: set[int] = set()
        self._states: dict[int, QueryState] = {}
        self._pieces = AnswerPieces()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    # --- storing

    def store(self, arrivals: Sequence[Arrival]) -> list[Stored | Arrival]:
        """Have questions stored; in place of what becomes of one, itself where that is not known.

        It is to be stored without the poller then, and knows whether it may have been already.
        """
        left = dict(enumerate(arrivals))
        results: dict[int, Stored | Arrival] = {}
        self._gave_up = False
        end = time.monotonic() + PATIENCE_S
        while left and not self._draining and self._is_open(end):
            self._send_and_receive(left, results, end)
        if left and self._gave_up:  # until the poller, too, looks whether they are stored
            time.sleep(max(0.0, self._last_sent + SURE_S - time.monotonic()))
        return [
            results.get(place, left.get(place, arrivals[place])) for place in range(len(arrivals))
        ]

    def _send_and_receive(
        self, left: dict[int, Arrival], results: dict[int, Stored | Arrival], end: float
    ) -> None:
        """Send what is left, and take the replies as long as the connection holds."""
        places = {}
        for place, arrival in left.items():
            self._last_sent = time.monotonic()
            sent = msgspec.structs.replace(
                arrival,
                after=arrival.after if arrival.repeated else self._newest,
                sent_at=self._last_sent,
            )
            self._number += 1
            places[self._number] = place
            left[place] = msgspec.structs.replace(sent, repeated=True)
            if not self._send(AskRequest(sent, self._with_pieces), self._number, end):
                return
        while places and self._socket and time.monotonic() < end:
            self._receive(end - time.monotonic())
            for number in [number for number in places if number in self._replies]:
                place = places.pop(number)
                reply = results[place] = self._replies.pop(number)
                arrival = left.pop(place)
                if isinstance(reply, SentMessage):
                    self._states.setdefault(reply.id, just_sent(reply.id, arrival))
            for number in self._given_back & places.keys():
                place = places.pop(number)
                results[place] = left.pop(place)
            self._given_back.clear()
        if places and self._socket:
            self._give_up()

    # --- waiting

    def follow(self, ids: Iterable[int]) -> None:
        """Be told how these questions go on."""
        new = [each for each in ids if each not in self._followed]
        self._followed.update(new)
        if new and self._socket:
            self._send(FollowRequest(new, self._with_pieces), LINK, time.monotonic() + PATIENCE_S)

    def state(self, message_id: int) -> QueryState | None:
        """Return what the poller said last of a question; None when that is not all of it."""
        state = self._states.get(message_id)
        return None if state and state.answer is None and state.settled_at else state

    @property
    def is_open(self) -> bool:
        """Tell whether there is a poller at the other end, hung or not."""
        return self._socket is not None

    def take_pieces(self, message_id: int) -> AnswerPiece | None:
        """Return what has come of an answer that is being written, since the last call."""
        return self._pieces.take(message_id)

    def forget(self, message_id: int) -> None:
        """Forget a question whose outcome is known."""
        self._followed.discard(message_id)
        self._states.pop(message_id, None)
        self._pieces.drop(message_id)

    def wait(self, seconds: float) -> bool:
        """Return when there is news of any question, or after the time; tell which."""
        end = time.monotonic() + max(0.0, seconds)
        while True:
            left = end - time.monotonic()
            if self._socket is None and not self._connect(end):
                left = min(left, RETRY_S)
            ready = self._ready(left, self.also)
            if self._socket and self._socket.fileno() in ready and self._receive(0.0):
                return True
            if self.also in ready or time.monotonic() >= end:
                return False

    # --- the connection

    def _is_open(self, end: float) -> bool:
        return time.monotonic() < end and (self._socket is not None or self._connect(end))

    def _connect(self, end: float) -> bool:
        """Connect and greet; tell whether that worked in time."""
        if self.trouble:
            return False
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise OSError
            found.settimeout(max(0.01, end - time.monotonic()))
            with short_address(self._path) as address:
                found.connect(address)
        except OSError:
            found.close()
            return False
        self._socket, self._draining = found, False
        self._reader: RecordReader[FromPoller] = RecordReader(FromPoller)
        self._greeting: PollerGreeting | None = None
        self._send(AskerGreeting(VERSION), LINK, end)
        while self._socket and self._greeting is None and time.monotonic() < end:
            self._receive(end - time.monotonic())
        if self._greeting is None or self._greeting.version != VERSION:
            if self._greeting:
                self.trouble = (
                    f"the poller speaks version {self._greeting.version} of its protocol, this"
                    f" program version {VERSION}"
                )
            self._close()
            return False
        self._newest = self._greeting.newest
        if self._followed:
            self._send(FollowRequest(list(self._followed), self._with_pieces), LINK, end)
        return self._socket is not None

    def _close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None

    def _give_up(self) -> None:
        """Close what seems to be hung."""
        self._gave_up = True
        self._close()

    def _send(self, record: FromAsker, number: int, end: float) -> bool:
        """Send a record; close, and tell so, when it cannot be sent in time."""
        if self._socket is None:
            return False
        head, payload = pack(record, number)
        try:
            self._socket.settimeout(max(0.01, end - time.monotonic()))
            self._socket.sendall(head + payload)
        except TimeoutError:
            self._give_up()
            return False
        except OSError:
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
        """Take one record; tell whether it is news of a question."""
        match record:
            case QuestionNews(query=query):
                if query.message_id in self._followed:
                    self._states[query.message_id] = query
                return True
            case AnswerText(id=message_id):
                self._pieces.add(record)
                if state := self._states.get(message_id):
                    self._states[message_id] = msgspec.structs.replace(
                        state, state="leased", attempts=record.attempt
                    )
                return True
            case QuestionStored(id=message_id, fresh=fresh):
                self._replies[number] = SentMessage(id=message_id, fresh=fresh)
                self._followed.add(message_id)
            case QuestionRefused():
                self._replies[number] = error_of(record)
            case PollerDraining():
                self._draining = True
                self._given_back.add(number)
            case PollerGreeting():
                self._greeting = record
        return False


def just_sent(message_id: int, arrival: Arrival) -> QueryState:
    """Return how a question stands that was stored just now, as far as its asker knows."""
    return QueryState(
        message_id=message_id,
        conversation=arrival.conversation,
        session="b" if arrival.session == "a" else "a",
        state="sent",
        shard=None,
        attempts=0,
        last_error=None,
        answer=None,
        enrolled_at=None,
        settled_at=None,
    )
