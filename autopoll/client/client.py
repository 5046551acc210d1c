"""What people and programs do with a home: ask, wait, send, read; used by every front door.

A question is safe as soon as `ask` returns: it is committed. Everything after that is only looking,
so a front door may be interrupted at any moment, and `answer ID` takes up the wait again.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import (
    IdempotencyKey,
    Message,
    Presence,
    QueryState,
    SentMessage,
    Tokens,
)
from autopoll.client.partial_answer import Follower, Pieces
from autopoll.client.result import Result, to_result
from autopoll.errors import AccessDenied, Down, NotFound, TimedOut, UsageError
from autopoll.home import credentials
from autopoll.home.config import Config
from autopoll.home.home import Home, socket_path
from autopoll.home.lock import holder_of
from autopoll.message import answered_by, is_answerable, read_envelope, write_query
from autopoll.process.waiter import Ringable, Waiter, nudge

if TYPE_CHECKING:
    from autopoll.client.availability import Obstacle

NET_S = 1.0  # how often a waiter looks without having been rung
PIECES_S = 0.1  # how often who follows an answer looks for its pieces: only the asker is rung
DOWN_AFTER = 3  # nets in a row with nobody listening; a poller's restart takes less
TOKEN_FILE_LIMIT = 4096  # characters; a token has 64
TOKEN_VARIABLE = "AUTOPOLL_TOKEN"  # noqa: S105 - the name of a variable


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Questions that are stored; `heard` tells whether anybody is there to answer them."""

    ids: list[int]
    heard: bool


News = Callable[[QueryState], None]


class Client:
    """The use-cases of one home over one open bridge."""

    def __init__(self, home: Home, config: Config, bridge: Bridge) -> None:
        self.home = home
        self.config = config
        self.bridge = bridge
        self._kept = credentials.Kept(home)
        self.obstacle: Obstacle | None = None  # in the way of what is waited for

    def ask(
        self,
        questions: Sequence[str],
        shard: str,
        *,
        context_file: str | None = None,
        waiter: Ringable | None = None,
        canary: bool = False,
    ) -> Asked:
        """Store questions to a shard in one commit, each in a lane of its own.

        Raises UsageError for what is no question, NotFound for an unknown shard, AccessDenied,
        RateLimited, and BridgeError with nothing stored.
        """
        for question in questions:
            _check_question(question)
        conversation, session = self.own_session(shard)
        metadata = _envelope(waiter, canary=canary)
        texts = [write_query(question, _query_id(), context_file) for question in questions]
        ids = self.bridge.messages.send(conversation, session, texts, [metadata] * len(texts))
        return Asked(ids=ids, heard=self.is_listening())

    def ask_once(
        self,
        question: str,
        conversation: str,
        session: str,
        *,
        context_file: str | None = None,
        waiter: Ringable | None = None,
        key: IdempotencyKey | None = None,
    ) -> SentMessage:
        """Store a proven session's question to its partner, once for each key.

        Raises as `ask` does, KeyReused, and UsageError when no shard answers the partner.
        """
        _check_question(question)
        partner = "b" if session == "a" else "a"
        if self.bridge.conversations.shard_of(conversation, partner) is None:
            raise UsageError(
                f"no shard answers session {partner} of {conversation}",
                f"Have one answer it: autopoll serve {conversation} --session {partner}",
            )
        text, metadata = write_query(question, _query_id(), context_file), _envelope(waiter)
        if key:
            sent = self.bridge.messages.send_once(conversation, session, text, metadata, key)
        else:
            [number] = self.bridge.messages.send(conversation, session, [text], [metadata])
            sent = SentMessage(id=number, fresh=True)
        self.wake()
        return sent

    def converse(self, role_a: str, role_b: str, shard: str | None = None) -> Tokens:
        """Create a conversation, with a shard as session b if one is named; raise NotFound."""
        if shard is not None and shard not in self.config.shards:
            raise NotFound(
                f"there is no shard {shard!r}", f"There are: {', '.join(self.config.shards)}."
            )
        tokens = self.bridge.conversations.create(role_a, role_b)
        if shard is not None:
            self.bridge.conversations.serve(tokens.conversation, "b", shard)
        return tokens

    def result(self, message_id: int) -> Result:
        """Return how a question stands, consuming nothing; raise NotFound, for an answer too."""
        return self.result_of(self.bridge.messages.query_state(message_id))

    def result_of(self, state: QueryState) -> Result:
        """Return what the state of a message amounts to; raise NotFound where it is no question."""
        if state.state == "sent":  # not taken yet, or never will be
            for message in self.bridge.messages.find(after=state.message_id - 1, limit=1):
                _refuse_no_question(message)
        return to_result(state)

    def wait(
        self,
        ids: Sequence[int],
        waiter: Waiter,
        *,
        timeout: float | None = None,
        on_news: News | None = None,
        on_piece: Pieces | None = None,
    ) -> Iterator[Result]:
        """Yield the outcomes in the order of ids, each as soon as those before it are settled.

        `on_piece` is given the text of the answer that is next in this order as it is written. It
        is on the way only: the last part may be left out, and what counts is the outcome.
        Raises TimedOut, or Down when nobody is there to answer, or will be without somebody's help;
        the questions stay stored.
        """
        end = None if timeout is None else time.monotonic() + timeout
        for number, message_id in enumerate(ids):
            follower = Follower(self.home, message_id, on_piece) if on_piece else None
            with closing(follower) if follower else nullcontext():
                result = self._outcome(ids[number:], waiter, end, on_news, follower)
            if result is None:
                raise TimedOut(
                    f"no answer to {_these(ids[number:])} within {timeout:g} s",
                    f"It is kept; fetch it with: {_fetch(ids[number:])}",
                )
            yield result

    def _outcome(
        self,
        ids: Sequence[int],
        waiter: Waiter,
        end: float | None,
        on_news: News | None,
        follower: Follower | None,
    ) -> Result | None:
        """Return the outcome of the first of ids, None at the end of the time; raise Down."""
        alone = stuck = 0
        while True:
            state = self.bridge.messages.query_state(ids[0])
            result = to_result(state)
            if result.status != "pending":
                return result
            if on_news:
                on_news(state)
            left = NET_S if end is None else min(NET_S, end - time.monotonic())
            if left <= 0:
                return None
            if follower and state.state == "leased":
                rung = _follow(follower, state.attempts, waiter, left)
            else:
                rung = waiter.wait(left)
            if not rung:
                self.bridge.require_in_place()
            alone = 0 if rung or self.is_listening() else alone + 1
            if alone >= DOWN_AFTER:
                raise self.down(ids)
            self.obstacle = None if rung else self._find_obstacle(state.shard)
            if self.obstacle and self.obstacle.lasting:
                stuck += 1
                if stuck >= DOWN_AFTER:
                    raise self.obstacle.blocked(_these(ids), f"read the answer with: {_fetch(ids)}")
            else:
                stuck = 0

    def _find_obstacle(self, shard: str | None) -> "Obstacle | None":
        from autopoll.client import availability  # loads more than an asker mostly needs

        return availability.obstacle(self.home, self.config, shard)

    def paused(self, shard: str) -> str | None:
        """Return why a shard answers nothing for now, and until when; None when it does."""
        if not (self.home.pauses / shard).exists():
            return None
        from autopoll.process import pause  # loads more than an asker mostly needs

        paused = pause.read(self.home, shard)
        return paused.words if paused else None

    def wake(self) -> None:
        """Tell the poller to look; when it is down it will look by itself later."""
        nudge(self.home)

    def is_listening(self) -> bool:
        """Ring the poller, or else find supervisord there, or about to be, to bring it back."""
        return nudge(self.home) or _accepts(socket_path(self.home)) or _is_coming(self.home)

    def down(self, ids: Sequence[int]) -> Down:
        """Return the error that says what becomes of questions when nobody answers."""
        return Down(
            f"autopoll is down: {_these(ids)} is kept and will be answered after `autopoll up`",
            f"Then read it with: {_fetch(ids)}",
        )

    def authenticate(self, conversation: str, session: str | None, token: str | None) -> str:
        """Prove who is speaking and return the session.

        The token given wins, then AUTOPOLL_TOKEN, then the one the home keeps for the session
        (a unless named). Raises AccessDenied, or NotFound when there is no token at all.
        """
        token = token or os.environ.get(TOKEN_VARIABLE)
        if not token:
            return self.as_owner(conversation, session or "a")
        proven = self.bridge.conversations.authenticate(conversation, token)
        if session not in (None, proven):
            raise AccessDenied(
                f"the token proves session {proven} of {conversation}, not {session}",
                f"Use the token of session {session}.",
            )
        return proven

    def send(self, conversation: str, session: str, text: str, metadata: str | None = None) -> int:
        """Store a message from a proven session to its partner and wake the poller.

        Raises RateLimited, and UsageError for one that is empty, too large, or whose metadata is no
        JSON object.
        """
        if not text.strip():
            raise UsageError("the message is empty", "Give a text, or - to read it from stdin.")
        [message_id] = self.bridge.messages.send(conversation, session, [text], [metadata])
        self.wake()
        return message_id

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

    def partner(self, conversation: str, session: str) -> Presence:
        """Return what the partner of a proven session last said of itself."""
        return self.bridge.conversations.presence(conversation, "b" if session == "a" else "a")

    def keep_token(self, conversation: str, session: str, token: str) -> bool:
        """Keep a new token if the home kept the one before it; tell whether it does."""
        with credentials.edit(self.home) as kept:
            if session not in kept.tokens.get(conversation, {}):
                return False
            kept.tokens[conversation][session] = token
            return True

    def own_session(self, shard: str) -> tuple[str, str]:
        """Return the home's own conversation with a shard and its session there, proven.

        Raises as `as_owner` does, and NotFound for an unknown shard.
        """
        if shard not in self.config.shards:
            raise NotFound(
                f"there is no shard {shard!r}", f"There are: {', '.join(self.config.shards)}."
            )
        kept = self._kept.read()
        conversation = kept.shards.get(shard)
        if conversation is None:
            raise self._lost() or NotFound(
                f"shard {shard} has no conversation yet", f"Run: autopoll init '{self.home.root}'"
            )
        return conversation, self.as_owner(conversation, "a")

    def as_owner(self, conversation: str, session: str) -> str:
        """Prove a session by the token that the home keeps for it, replacing one that has expired.

        Raises NotFound when it keeps none, and AccessDenied for a revoked one.
        """
        try:
            try:
                token = self._kept.read().token(conversation, session)
            except NotFound as error:
                raise self._lost() or error from None
            return self.bridge.conversations.authenticate(conversation, token)
        except AccessDenied:
            from autopoll.bridge import renewal  # which an asker mostly does not need

            with credentials.edit(self.home) as kept:
                if session not in renewal.replace_refused(self.bridge, conversation, kept):
                    raise
        return session

    def _lost(self) -> NotFound | None:
        """Return what is said when the file of tokens is gone from a home that had one."""
        if self.home.credentials.exists() or not self.bridge.conversations.all():
            return None
        return NotFound(
            f"{self.home.credentials} is lost, and with it the tokens of this home",
            f"Put it back; or make new conversations with: autopoll init '{self.home.root}'. Those "
            "before stay in the bridge (autopoll conversations list), and what waits in them is "
            "answered; for a new token to one: autopoll conversations rotate ID a",
        )


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


def _follow(follower: Follower, attempt: int, waiter: Waiter, seconds: float) -> bool:
    """Hand on the pieces of an attempt until rung, or for the time; tell which."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        follower.look(attempt)
        if waiter.wait(min(left, PIECES_S)):
            return True
    return False


def read_token(path: Path) -> str:
    """Return the token in a file, or on stdin for `-`; raise UsageError when there is none."""
    try:
        with (Path("/dev/stdin") if str(path) == "-" else path).open(encoding="utf-8-sig") as file:
            text = file.read(TOKEN_FILE_LIMIT)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} holds no token: it is not text") from error
    if not text.strip():
        raise UsageError(f"{path} holds no token: it is empty")
    return text.strip()


def _query_id() -> str:
    return f"q-{os.urandom(8).hex()}"


def _envelope(waiter: Ringable | None, *, canary: bool = False) -> str:
    """Return the metadata of a question: a lane of its own, and whom to ring."""
    envelope = {"lane": "own", **({"waiter": waiter.name} if waiter else {})}
    return msgspec.json.encode(envelope | ({"canary": True} if canary else {})).decode()


def _check_question(question: str) -> None:
    if not question.strip():
        raise UsageError("the question is empty", "Give one: autopoll ask 'How …?'")
    if "\0" in question:
        raise UsageError("the question holds a NUL character", "Send text.")
    try:
        question.encode()
    except UnicodeEncodeError:
        raise UsageError("the question is not UTF-8", "Send text in UTF-8.") from None


def _accepts(path: Path) -> bool:
    """Tell whether somebody listens on a unix socket; a full queue counts, it is only hung."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def _is_coming(home: Home) -> bool:
    """Tell whether supervisord is there and does not listen yet, or a command may start it."""
    return any(holder_of(lock) for lock in (home.supervisord_lock, home.change_lock))


def _these(ids: Sequence[int]) -> str:
    if len(ids) == 1:
        return f"question {ids[0]}"
    return f"each of {len(ids)} questions ({ids[0]} to {ids[-1]})"


def _fetch(ids: Sequence[int]) -> str:
    return f"autopoll answer {ids[0]}" + (f" … {ids[-1]}" if len(ids) > 1 else "")
