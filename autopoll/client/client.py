"""What people and programs do with a home: ask, wait, send, read; used by every front door.

A question is safe as soon as `ask` returns: it is committed.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from autopoll.bridge.records import (
    Arrival,
    IdempotencyKey,
    Message,
    QueryState,
    SentMessage,
    Stored,
    Tokens,
)
from autopoll.client.answer_pieces import OnPiece
from autopoll.client.home_sessions import HomeSessions
from autopoll.client.listening import is_listening
from autopoll.client.new_arrivals import message_arrival, question_arrival, require_question
from autopoll.client.outcome_wait import OnNews, OutcomeWait
from autopoll.client.poller_connection import PollerConnection
from autopoll.client.result import Result, to_result
from autopoll.errors import AutopollError, BridgeError, BridgeUnavailable, NotFound, UsageError
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.message import answered_by, is_answerable, read_envelope
from autopoll.process.nudge import nudge

if TYPE_CHECKING:
    from autopoll.bridge.protocols import Bridge

_OWN = "a"  # the home's session in its conversations with shards


class StoredQuestions(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of questions that were stored, and whether anybody is there to answer them."""

    ids: list[int]
    listening: bool


class Client:
    """The use-cases of one home over one open bridge."""

    def __init__(self, home: Home, config: Config, bridge: "Bridge") -> None:
        self.home = home
        self.config = config
        self.bridge = bridge
        self.sessions = HomeSessions(home, bridge)

    def ask(
        self,
        questions: Sequence[str],
        shard: str,
        *,
        context_file: str | None = None,
        connection: PollerConnection | None = None,
        canary: bool = False,
        trial: bool = False,
    ) -> StoredQuestions:
        """Store questions to a shard, each in a lane of its own; return them all, or raise.

        A `canary` asks for a sign of life only, a `trial` for an answer; neither is counted, and
        its asker removes it.
        Raises as `submit` does, and whatever keeps one of them from being stored.
        """
        stored, listening = self.submit(
            questions,
            shard,
            context_file=context_file,
            connection=connection,
            canary=canary,
            trial=trial,
        )
        for one in stored:
            if isinstance(one, AutopollError):
                raise one
        ids = [one.id for one in stored if isinstance(one, SentMessage)]
        return StoredQuestions(ids=ids, listening=listening)

    def submit(
        self,
        questions: Sequence[str],
        shard: str,
        *,
        context_file: str | None = None,
        connection: PollerConnection | None = None,
        canary: bool = False,
        trial: bool = False,
    ) -> tuple[list[Stored], bool]:
        """Store questions to a shard, each on its own merits: by the poller, else without it.

        Returns one item for each, in order: the message, or RateLimited or another error that keeps
        it from being stored; and whether anybody is there to answer. Raises UsageError for what is
        no question, NotFound for an unknown shard, AccessDenied, and BridgeError, with nothing
        stored. Where the poller has stored some, the others have their error as their item.
        """
        for question in questions:
            require_question(question)
        conversation = self.sessions.with_shard(shard, self.config)
        token = self.sessions.token(conversation, _OWN)
        arrivals = [
            question_arrival(question, context_file, conversation, _OWN, canary=canary, trial=trial)
            for question in questions
        ]
        stored: list[Stored | Arrival] = [*arrivals]
        if connection:
            stored = connection.store(arrivals, token, shard=shard)
        left = [one for one in stored if isinstance(one, Arrival)]
        by_us: list[Stored] = []
        try:
            by_us = self._store(left, proven=False) if left else []
        except AutopollError as error:
            if len(left) == len(arrivals):
                raise
            by_us = [error] * len(left)
        own = iter(by_us)
        done = [next(own) if isinstance(one, Arrival) else one for one in stored]
        return done, not left or is_listening(self.home)

    def arrival(
        self,
        question: str,
        conversation: str,
        session: str,
        *,
        context_file: str | None = None,
        key: IdempotencyKey | None = None,
    ) -> Arrival:
        """Return a proven session's question to its partner, to be stored once for each key.

        Raises UsageError for what is no question, or when no shard answers the partner.
        """
        require_question(question)
        partner = "b" if session == "a" else "a"
        if self.bridge.conversations.shard_of(conversation, partner) is None:
            raise UsageError(
                f"no shard answers session {partner} of {conversation}",
                f"Have one answer it: autopoll serve {conversation} --session {partner}",
            )
        return question_arrival(question, context_file, conversation, session, key=key)

    def store_without_poller(self, arrival: Arrival) -> Stored:
        """Store a message that the poller has not stored, or not said so; then wake the poller."""
        [stored] = self._store([arrival])
        nudge(self.home)
        return stored

    def _store(self, arrivals: Sequence[Arrival], *, proven: bool = True) -> list[Stored]:
        """Store messages of one session, which is proven first if need be.

        Raises as `HomeSessions.as_owner`, and BridgeError, which says when they may be stored all
        the same.
        """
        doubt = ""
        if any(each.repeated for each in arrivals):
            doubt = "the poller has the question too, and may store it yet"
        try:
            if not proven:
                self.sessions.as_owner(arrivals[0].conversation, arrivals[0].session)
            try:
                return self.bridge.messages.store(arrivals)
            except BridgeUnavailable:
                doubt = doubt or "it may be stored all the same"
                again = [msgspec.structs.replace(each, repeated=True) for each in arrivals]
                return self.bridge.messages.store(again)
        except BridgeError as error:
            if doubt:
                look = f"autopoll messages --conversation {arrivals[0].conversation}"
                error.what += f"; {doubt}"
                error.mend = f"Before you repeat it, look: {look}"
            raise

    def converse(self, role_a: str, role_b: str, shard: str | None = None) -> Tokens:
        """Create a conversation, with a shard as session b if one is named; raise NotFound."""
        if shard is not None:
            self.sessions.require_shards([shard], self.config)
        try:
            tokens = self.bridge.conversations.create(role_a, role_b)
            if shard is not None:
                self.bridge.conversations.serve(tokens.conversation, "b", shard)
        except BridgeUnavailable as error:
            error.what += "; the conversation may be there all the same, with tokens nobody knows"
            error.mend = "Before you repeat it, look: autopoll conversations list"
            raise
        return tokens

    def own_session(self, shard: str) -> tuple[str, str]:
        """Return the home's own conversation with a shard and its session there, proven.

        Raises as `HomeSessions.with_shard` and `as_owner` do.
        """
        conversation = self.sessions.with_shard(shard, self.config)
        return conversation, self.sessions.as_owner(conversation, _OWN)

    def result(self, message_id: int) -> Result:
        """Return how a question stands, consuming nothing; raise NotFound, for an answer too."""
        return self.result_of(self.bridge.messages.query_state(message_id))

    def results(self, ids: Sequence[int], connection: PollerConnection) -> list[Result]:
        """Return how questions stand: as the poller says, else as stored; raise NotFound."""
        connection.look_up(ids)
        states = [connection.state(each) for each in ids]
        return [
            self.result_of(state) if state else self.result(number)
            for number, state in zip(ids, states, strict=True)
        ]

    def result_of(self, state: QueryState) -> Result:
        """Return what the state of a message amounts to; raise NotFound where it is no question."""
        if state.state == "sent":  # not taken yet, or never will be
            _refuse_no_question(self.bridge.messages.message(state.message_id))
        return to_result(state)

    def wait(
        self,
        ids: Sequence[int],
        connection: PollerConnection,
        *,
        timeout: float | None = None,
        on_news: OnNews | None = None,
        on_piece: OnPiece | None = None,
    ) -> Iterator[Result]:
        """Yield the outcomes in the order of ids; see `OutcomeWait.outcomes`."""
        wait = OutcomeWait(self.home, self.config, self.bridge, connection, timeout)
        return wait.outcomes(ids, on_news, on_piece)

    def paused(self, shard: str) -> str | None:
        """Return why a shard answers nothing for now, and until when; None when it does."""
        folders = (self.home.pauses, self.home.manual_pauses)
        if not any((folder / shard).exists() for folder in folders):
            return None
        from autopoll.process import shard_pause  # loads more than an asker mostly needs

        found = shard_pause.current(self.home, shard)
        return found.words if found else None

    def send(self, conversation: str, session: str, text: str, metadata: str | None = None) -> int:
        """Store a message from a proven session to its partner and wake the poller.

        Raises RateLimited, UsageError for one that is empty, too large, or whose metadata is no
        JSON object, and BridgeError, which says when it may be stored all the same.
        """
        if not text.strip():
            raise UsageError("the message is empty", "Give a text, or - to read it from stdin.")
        arrival = message_arrival(text, metadata, conversation, session)
        stored = self.store_without_poller(arrival)
        if isinstance(stored, AutopollError):
            raise stored
        return stored.id

    def inbox(self, conversation: str, session: str, limit: int) -> list[Message]:
        """Take a proven session's unread messages.

        Raises UsageError for a session that a shard serves: its questions are not for us to take.
        """
        shard = self.bridge.conversations.shard_of(conversation, session)
        if shard is not None:
            raise UsageError(
                f"session {session} of {conversation} is answered by shard {shard}",
                "Look without taking: autopoll messages --conversation "
                f"{conversation}; or end it: autopoll serve --stop {conversation}",
            )
        return self.bridge.messages.receive(conversation, session, limit)

    def set_status(self, conversation: str, session: str, status: str) -> None:
        """Let the partner of a proven session see what it is doing, and that it is alive."""
        if not status.strip():
            raise UsageError("the status is empty", "Say in a word what you are doing.")
        self.bridge.conversations.set_status(conversation, session, status)


def _refuse_no_question(message: Message) -> None:
    """Raise NotFound for a message that nobody will ever answer, as an answer is."""
    if is_answerable(message.text, read_envelope(message.metadata)):
        return
    if (question := answered_by(message.metadata)) is not None:
        raise NotFound(
            f"message {message.id} is no question; it is the answer to question {question}",
            f"Show it with: autopoll answer {question}",
        )
    raise NotFound(
        f"message {message.id} is no question, and is not answered",
        "List the questions with: autopoll messages --type query",
    )
