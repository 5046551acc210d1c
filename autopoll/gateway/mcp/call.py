"""One call of a tool: who calls, what is at hand to serve it, and as whom it is carried out."""

import os
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, Protocol, TypeVar

import msgspec

from autopoll.client.client import Client
from autopoll.client.home_sessions import TOKEN_VARIABLE
from autopoll.errors import AccessDenied, UsageError
from autopoll.gateway.access import Caller
from autopoll.gateway.hub import Hub
from autopoll.gateway.rest.conversation_routes import seen
from autopoll.home import credentials

T = TypeVar("T")

ConversationId = Annotated[
    str, msgspec.Meta(min_length=1, max_length=200, description="As create_conversation gave it.")
]
SessionId = Annotated[
    Literal["a", "b"],
    msgspec.Meta(description="Which session you are; else whom the token proves."),
]
Token = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=200,
        description="The session's token; not needed where this server keeps it for you.",
    ),
]


class Visit(Protocol):
    """Whoever is let in, and what they may use; over HTTP it is that of a bearer's token."""

    hub: Hub

    async def call(self, use: Callable[[Client, Caller], T]) -> T:
        """Return what a use-case returns for the caller; raise what it raises."""
        ...


class Owner:
    """The visit of the home's owner, whom the operating system has let in."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    async def call(self, use: Callable[[Client, Caller], T]) -> T:
        """Return what a use-case returns for the owner, who may do what an operator may."""
        return await self.hub.call(lambda client: use(client, Caller()))


class Call:
    """What a tool is given beside its arguments; `tell` tells a caller who listens how it goes."""

    def __init__(
        self, visit: Visit, tell: Callable[[str], Awaitable[None]], *, listens: bool
    ) -> None:
        self.hub = visit.hub
        self.use = visit.call
        self.tell = tell
        self.listens = listens


class Spoken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of every tool that is used as a session of a conversation."""

    conversation_id: ConversationId | None = None
    session_id: SessionId | None = None
    token: Token | None = None


def speaker(client: Client, caller: Caller, given: Spoken) -> tuple[str, str]:
    """Return the conversation and the session that a caller speaks as.

    Raises UsageError, AccessDenied and NotFound; to whom a conversation is closed, it is not there.
    """
    conversation = given.conversation_id or caller.conversation
    if conversation is None:
        raise UsageError(
            "conversation_id is missing",
            "Give the one that create_conversation returned, or find it in the resources.",
        )
    session = caller.session
    if session is not None:
        seen(caller, conversation)
        if given.token is not None:
            session = client.bridge.conversations.authenticate(conversation, given.token)
        if session != caller.session or given.session_id not in (None, session):
            raise AccessDenied(
                f"you are session {caller.session} of {conversation}",
                "Leave session_id and token out.",
            )
        return conversation, session
    if given.token is None and not os.environ.get(TOKEN_VARIABLE):
        client.bridge.conversations.get(conversation)
        kept = credentials.read(client.home).tokens.get(conversation, {})
        if (given.session_id or "a") not in kept:
            raise AccessDenied(
                f"nothing proves that you are session {given.session_id or 'a'} of {conversation}",
                "Give the token that create_conversation returned for that session.",
            )
    return conversation, client.sessions.authenticate(conversation, given.session_id, given.token)
