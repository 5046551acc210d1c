"""What askers want stored, and the followers of each question.

What arrives is only noted, and wakes the loop. An asker gets the poller's word that its question is
stored after the commit, and no sooner. Until then it counts for nothing: a connection that ends
takes along what is not stored of it.
"""

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

from autopoll.bridge.poller_protocol import (
    LARGEST_ANSWER,
    AnswerText,
    AskRequest,
    FollowRequest,
    FromAsker,
    FromPoller,
    PollerDraining,
    QuestionNews,
    QuestionStored,
    QuestionUnknown,
    refusal,
    shortened,
)
from autopoll.bridge.protocols import ConversationStore, MessageStore
from autopoll.bridge.records import Arrival, Delivery, QueryState, SentMessage, Settled, Stored
from autopoll.errors import AutopollError, BridgeError, BridgeUnavailable
from autopoll.poller.asker_connection import AskerConnection
from autopoll.poller.asker_listener import MOST_CONNECTIONS
from autopoll.poller.attempt import leased_state
from autopoll.poller.look_up_queue import LookUpQueue
from autopoll.poller.partial_answers import PartialAnswers
from autopoll.poller.session_proof import why_unproven

BATCH = 1000  # questions stored in one turn
_FRAME_SLACK = 64 * 1024  # bytes of a frame beside the text of its question

_Asked = tuple[AskerConnection, int, AskRequest]


class AskedQuestions:
    """The connections, what has arrived on them, and their followed questions."""

    def __init__(
        self, partial_answers: PartialAnswers, max_message: int, wake: Callable[[], None]
    ) -> None:
        self.newest = 0  # number of a message in the store; the next ones are greater
        self._partial_answers = partial_answers
        self._max_payload = max_message + _FRAME_SLACK
        self._wake = wake
        self._connections: set[AskerConnection] = set()
        self._arrived: list[_Asked] = []
        self._storing: list[_Asked] = []
        self._to_look_up = LookUpQueue()
        self._followers: dict[int, dict[AskerConnection, bool]] = {}  # with pieces or without
        self._known: dict[int, QueryState] = {}  # what their followers know of unsettled questions
        self._written: set[AskerConnection] = set()  # since the last flush
        self._draining = False

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def have_arrived(self) -> bool:
        """Whether anything is to be stored."""
        return bool(self._arrived)

    # --- connections

    def accept(self, connection: socket.socket) -> bool:
        """Serve a connection, and tell whether there was room; else its asker uses the store."""
        if len(self._connections) >= MOST_CONNECTIONS:
            connection.close()
            return False
        self._connections.add(AskerConnection(connection, self, self._max_payload))
        return True

    def receive(self, connection: AskerConnection, number: int, record: FromAsker) -> None:
        """Note what an asker wants, for the next turn."""
        match record:
            case AskRequest() if self._draining:
                connection.send(PollerDraining(), number)
            case AskRequest():
                self._arrived.append((connection, number, record))
                self._wake()
            case FollowRequest(ids=ids, pieces=pieces):
                for message_id in ids:
                    self._look_up_later(message_id, connection, pieces)
                self._wake()
            case _:
                connection.close("it greeted twice")

    def forget(self, connection: AskerConnection) -> None:
        """Forget a connection, and what it wanted stored."""
        self._connections.discard(connection)
        self._written.discard(connection)
        self._to_look_up.forget(connection)
        self._arrived = [each for each in self._arrived if each[0] is not connection]
        for message_id in list(connection.following):
            self._unfollow(message_id, connection)

    def on_emptied(self) -> None:
        """Look up what was left while an asker was behind."""
        if self._to_look_up:
            self._wake()

    def drain(self) -> None:
        """Store nothing more: askers do that themselves."""
        self._draining = True
        for connection, number, _ in self._arrived:
            connection.send(PollerDraining(), number)
        self._arrived = []
        for connection in list(self._connections):
            connection.send(PollerDraining())

    def restart(self, newest: int) -> None:
        """Have all askers connect again, and ask how their questions stand.

        For a store that was away: a server that took the place of another may lack its last
        commits, and hand out their numbers once more.
        """
        self.newest = newest
        for connection in list(self._connections):
            connection.close()

    def close(self) -> None:
        """Close all connections, after what was sent on them."""
        for connection in list(self._connections):
            connection.close()

    # --- each turn

    @contextmanager
    def taken(self, conversations: ConversationStore) -> Iterator[list[Arrival]]:
        """Yield what has arrived and may be stored, within the block; raises its BridgeError.

        Such an error is then why all of it is refused, and askers learn it. Where nobody knows
        whether it is stored, connections are closed instead: their askers ask again, by its name.
        """
        arrived, self._arrived = self._arrived[:BATCH], self._arrived[BATCH:]
        if self._arrived:
            self._wake()
        try:
            self._storing = self._proven(arrived, conversations)
            yield [request.arrival for _, _, request in self._storing]
        except BridgeUnavailable as error:
            for connection in {connection for connection, _, _ in arrived}:
                connection.close(error.what)
            raise
        except BridgeError as error:
            for connection, number, _ in arrived:
                self._send(connection, refusal(error), number)
            raise

    def _proven(self, arrived: list[_Asked], conversations: ConversationStore) -> list[_Asked]:
        """Return what is asked by a session that is proven; refuse the rest."""
        refusals: dict[tuple[str, str, str], AutopollError | None] = {}  # most bear the same token
        proven = []
        for connection, number, request in arrived:
            arrival = request.arrival
            if request.token is not None:
                claim = (arrival.conversation, arrival.session, request.token)
                if claim not in refusals:
                    refusals[claim] = why_unproven(conversations, *claim)
                if error := refusals[claim]:
                    self._send(connection, refusal(error), number)
                    continue
            proven.append((connection, number, request))
        return [each for each in proven if each[0] in self._connections]  # a refusal may cut it off

    def committed(self, stored: Iterable[Stored]) -> None:
        """Say what has become of what arrived, now that it is committed."""
        for (connection, number, request), one in zip(self._storing, stored, strict=True):
            if isinstance(one, SentMessage):
                self.newest = max(self.newest, one.id)
            if connection not in self._connections:
                continue
            if isinstance(one, AutopollError):
                self._send(connection, refusal(one), number)
                continue
            if request.follow and one.fresh:
                self._follow(one.id, connection, request.pieces)
            elif request.follow:
                self._look_up_later(one.id, connection, request.pieces)
            # Last, as it may cut the asker off, of which nothing is to be left then.
            self._send(connection, QuestionStored(one.id, one.fresh), number)

    def look_up(self, messages: MessageStore) -> None:
        """Say how some questions stand that somebody began to follow; raises BridgeError."""
        if not (next_ids := self._to_look_up.next()):
            return
        queries = messages.query_states([*{*chain(*next_ids.values())}])
        states = {query.message_id: query for query in queries}
        for connection, ids in next_ids.items():
            for message_id in ids:
                pieces = self._to_look_up.take(message_id, connection)
                if pieces is not None and message_id in connection.following:
                    self._looked_up(message_id, states.get(message_id), connection, pieces)
        self.flush()
        if self._to_look_up.next():
            self._wake()

    def settled(self, settled: Iterable[Settled]) -> None:
        """Tell the followers what was committed."""
        for each in settled:
            self.newest = max(self.newest, each.message_id)
            if each.query and (followers := self._followers.get(each.message_id)):
                self._tell(each.query, followers)

    @property
    def followed(self) -> Iterable[int]:
        """The questions that have followers."""
        return self._followers

    def seen(self, query: QueryState) -> None:
        """Tell the followers what was found in the store, if that is news to them."""
        if not (followers := self._followers.get(query.message_id)):
            return
        known = self._known.get(query.message_id)
        waits = known is None and query.state in ("sent", "queued", "ready")  # as they know
        if query != known and not waits:
            self._tell(query, followers)

    def flush(self) -> None:
        """Write what was sent in this turn."""
        for connection in self._written:
            connection.push()
        self._written.clear()

    # --- in between

    def working(self, delivery: Delivery) -> None:
        """Tell the followers that a worker is working on their question."""
        message_id = delivery.message_id
        if message_id in self._followers:
            known = self._known.get(message_id)
            query = leased_state(delivery, known.last_error if known else None)
            self._tell(query, self._followers[message_id])

    def text(self, delivery: Delivery, text: str) -> None:
        """Pass on the next part of an answer that is being written."""
        if delivery.message_id in self._followers:
            part = AnswerText(delivery.message_id, delivery.attempt, delivery.fence, text)
            for connection, pieces in list(self._followers[delivery.message_id].items()):
                if pieces:
                    connection.send(part)

    # --- followers

    def _look_up_later(self, message_id: int, connection: AskerConnection, pieces: bool) -> None:
        """Follow a question that is to be looked up in the store; its pieces only from then on."""
        self._follow(message_id, connection, False)
        self._to_look_up.add(message_id, connection, pieces)

    def _looked_up(
        self, message_id: int, query: QueryState | None, connection: AskerConnection, pieces: bool
    ) -> None:
        if query is None:  # there is no such message
            self._send(connection, QuestionUnknown(message_id))
            self._unfollow(message_id, connection)
            return
        if pieces:
            self._follow(message_id, connection, pieces)
            self._send(connection, self._partial_answers.so_far(message_id))
        self._tell(query, [connection])

    def _follow(self, message_id: int, connection: AskerConnection, pieces: bool) -> None:
        followers = self._followers.setdefault(message_id, {})
        followers[connection] = pieces or followers.get(connection, False)
        connection.following.add(message_id)

    def _tell(self, query: QueryState, followers: Iterable[AskerConnection]) -> None:
        """Tell followers, for the last time where it is settled."""
        news = QuestionNews(shortened(query, LARGEST_ANSWER))
        for connection in list(followers):
            brief = QuestionNews(shortened(query, 0)) if connection.is_behind else news
            self._send(connection, brief)
            if query.state in ("done", "dead"):
                self._unfollow(query.message_id, connection)
        if query.message_id in self._followers:
            self._known[query.message_id] = query

    def _unfollow(self, message_id: int, connection: AskerConnection) -> None:
        connection.following.discard(message_id)
        followers = self._followers.get(message_id, {})
        followers.pop(connection, None)
        if not followers:
            self._followers.pop(message_id, None)
            self._known.pop(message_id, None)

    def _send(self, connection: AskerConnection, record: FromPoller, number: int = 0) -> None:
        connection.send(record, number)
        self._written.add(connection)
