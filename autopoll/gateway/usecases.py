"""What a caller does with a home; REST and MCP are thin over it.

A use-case is carried out in one turn of the bridge's thread, and the turn begins with the proof of
the caller:

    await access.call(lambda use: use.messages(conversation, limit=50))

Whatever belongs to another conversation is answered exactly as if it did not exist, and audited,
also when it truly does not exist: neither the answer nor its time differs.
"""

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec

from autopoll.bridge.records import (
    Arrival,
    Conversation,
    IdempotencyKey,
    Message,
    Presence,
    SentMessage,
    Tokens,
)
from autopoll.client.client import Client
from autopoll.client.result import Result
from autopoll.errors import AccessDenied, NotFound, UsageError
from autopoll.gateway.authentication import Caller, Forbidden, prove
from autopoll.gateway.hub import Hub
from autopoll.home.config import ShardSection
from autopoll.ops.question_trace import QuestionTrace, ask_bridge, compose, for_asker
from autopoll.ops.question_waits import Asked

T = TypeVar("T")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question; the operator names a shard, anybody else asks in the token's conversation."""

    question: str
    shard: str | None = None
    conversation: str | None = None
    context_file: str | None = None


class UseCases:
    """What one proven caller may do, over the open bridge of the home."""

    def __init__(self, client: Client, caller: Caller) -> None:
        self.client = client
        self.caller = caller
        self._bridge = client.bridge

    # --- questions

    def arrival(self, question: Question, key: str | None = None) -> Arrival:
        """Return a question of the caller to be stored, once under each idempotency key."""
        conversation, session = self._asker(question)
        once = None
        if key is not None:
            digest = hashlib.sha256(msgspec.json.encode(question)).digest()
            once = IdempotencyKey(scope=self.caller.scope, name=key, digest=digest)
        return self.client.arrival(
            question.question,
            conversation,
            session,
            context_file=question.context_file,
            key=once,
        )

    def result(self, number: int) -> Result:
        """Return how a question stands; NotFound is the same when the caller may not see it."""
        try:
            state = self._bridge.messages.query_state(number)
        except NotFound:
            state = None
        if state is None or not self.caller.sees(state.conversation):
            raise _no_question(number)
        return self.client.result_of(state)

    def traced(self, number: int) -> Asked:
        """Return what the bridge knows of a question's way; NotFound as for `result`."""
        try:
            asked = ask_bridge(self._bridge, number)
        except NotFound:
            asked = None
        if asked is None or not self.caller.sees(asked.history.conversation):
            raise _no_question(number)
        return asked

    def shards(self) -> dict[str, ShardSection]:
        """Return the shards that the caller may ask, with their settings."""
        shards = self.client.config.shards
        if self.caller.is_operator:
            return shards
        routes = self._bridge.conversations.routes().items()
        mine = {shard for (conversation, _), shard in routes if self.caller.sees(conversation)}
        return {name: section for name, section in shards.items() if name in mine}

    # --- conversations

    def conversation(self, conversation: str) -> Conversation:
        """Return one conversation, without tokens."""
        return self._bridge.conversations.get(self.visible(conversation))

    def conversations(self) -> list[Conversation]:
        """Return all conversations, oldest first; for the operator only."""
        self.require_operator()
        return self._bridge.conversations.all()

    def create_conversation(self, role_a: str, role_b: str, shard: str | None) -> Tokens:
        """Create a conversation, with a shard as session b if one is named; for the operator."""
        self.require_operator()
        return self.client.converse(role_a, role_b, shard)

    def messages(
        self, conversation: str | None, *, after: int = 0, unread: bool = False, limit: int
    ) -> list[Message]:
        """Return messages of one conversation, or of all that the caller sees, and take none."""
        if conversation is None:
            conversation = self.caller.conversation
        else:
            self.visible(conversation)
        return self._bridge.messages.find(
            conversation=conversation, after=after, unread=unread, limit=limit
        )

    def send(
        self,
        conversation: str,
        session: str | None = None,
        token: str | None = None,
        *,
        text: str,
        metadata: str | None,
    ) -> int:
        """Store a message to the partner of the `speaker` and return its number."""
        return self.client.send(*self.speaker(conversation, session, token), text, metadata)

    def inbox(
        self, conversation: str, session: str | None = None, token: str | None = None, *, limit: int
    ) -> list[Message]:
        """Take the unread messages of the `speaker`."""
        return self.client.inbox(*self.speaker(conversation, session, token), limit)

    def set_status(
        self,
        conversation: str,
        session: str | None = None,
        token: str | None = None,
        *,
        status: str,
    ) -> None:
        """Let the partner of the `speaker` see what it is doing, and that it is alive."""
        self.client.set_status(*self.speaker(conversation, session, token), status)

    def presence(self, conversation: str, session: str) -> Presence:
        """Return what a session last said of itself, and whether it is alive."""
        return self._bridge.conversations.presence(self.visible(conversation), session)

    def speaker(
        self, conversation: str, session: str | None = None, token: str | None = None
    ) -> tuple[str, str]:
        """Return the conversation and the session that the caller speaks as.

        A session speaks as itself, whatever else is given; the operator as the one that a token
        proves, else as a session whose token the home keeps (a unless named).
        Raises NotFound and AccessDenied.
        """
        self.visible(conversation)
        if self.caller.session is None:
            if token is None:
                return conversation, self.client.sessions.as_owner(conversation, session or "a")
            return conversation, self.client.sessions.authenticate(conversation, session, token)
        proven = self.caller.session
        if token is not None:
            proven = self._bridge.conversations.authenticate(conversation, token)
        if proven != self.caller.session or session not in (None, proven):
            raise AccessDenied(
                f"you are session {self.caller.session} of {conversation}",
                "Leave session_id and token out.",
            )
        return conversation, proven

    def visible(self, conversation: str) -> str:
        """Return a conversation's id; raise NotFound when the caller may not see it."""
        if not self.caller.sees(conversation):
            raise NotFound(
                f"there is no conversation {conversation!r}",
                "List them with: autopoll conversations list",
            )
        return conversation

    def require_operator(self) -> None:
        """Raise Forbidden for anybody else."""
        if not self.caller.is_operator:
            raise Forbidden(
                "this needs the operator's token",
                "A conversation's token opens that conversation. "
                "Make one with: autopoll gateway token",
            )

    def _asker(self, question: Question) -> tuple[str, str]:
        """Return in which conversation and as which session a question is asked."""
        caller = self.caller
        if caller.conversation is not None and caller.session is not None:
            if question.conversation not in (None, caller.conversation):
                raise NotFound(
                    f"there is no conversation {question.conversation!r}",
                    "Leave it out: the token names it.",
                )
            partner = "b" if caller.session == "a" else "a"
            shard = self._bridge.conversations.shard_of(caller.conversation, partner)
            if question.shard not in (None, shard):
                raise UsageError(
                    f"shard {question.shard!r} does not answer in this conversation",
                    "Leave it out, or ask with the operator's token.",
                )
            return caller.conversation, caller.session
        if question.conversation is None:
            return self.client.own_session(question.shard or "main")
        if question.shard is not None:
            raise UsageError("shard and conversation exclude each other", "Give one of them.")
        return self.speaker(question.conversation)


class CallerAccess:
    """The way of one caller to the use-cases; `prove` returns who it is, or raises AccessDenied."""

    def __init__(self, hub: Hub, prove: Callable[[Client], Caller]) -> None:
        self.hub = hub
        self._prove = prove

    async def call(self, use: Callable[[UseCases], T]) -> T:
        """Return what a use-case returns; raise AccessDenied, and what it raises."""

        def proven(client: Client) -> T:
            caller = self._prove(client)
            try:
                return use(UseCases(client, caller))
            except (NotFound, Forbidden) as error:
                if not caller.is_operator:
                    client.bridge.conversations.audit_denial(caller.conversation, _why(error))
                raise

        return await self.hub.call(proven)

    async def trace(self, number: int) -> QuestionTrace:
        """Return how a question came to its answer; the operator sees processes and incidents."""
        asked, whole = await self.call(lambda use: (use.traced(number), use.caller.is_operator))
        # In a thread of its own: supervisord may be asked, and is given a second to answer.
        found = await asyncio.to_thread(compose, self.hub.home, self.hub.config, asked)
        return found if whole else for_asker(found)

    async def ask(self, question: Question, key: str | None = None) -> SentMessage:
        """Store a question, once under each idempotency key; raises as `call` does."""
        return await self.hub.store(await self.call(lambda use: use.arrival(question, key)))


def by_token(hub: Hub, token: str | None, conversation: str | None = None) -> CallerAccess:
    """Return the access of a token, which each use-case proves again; see `prove`."""
    return CallerAccess(hub, partial(prove, token=token, conversation=conversation))


def as_owner(hub: Hub) -> CallerAccess:
    """Return the access of the home's owner, whom the operating system has let in."""
    return CallerAccess(hub, lambda _client: Caller())


def _no_question(number: int) -> NotFound:
    return NotFound(f"there is no question {number}", "Use the id that asking returned.")


def _why(error: NotFound | Forbidden) -> str:
    return "not for this token" if isinstance(error, NotFound) else "needs the operator's token"
