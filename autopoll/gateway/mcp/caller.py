"""Who calls a tool, and what is at hand to serve the call."""

import os
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

import msgspec

from autopoll import credentials
from autopoll.errors import AccessDenied, NotFound, UsageError
from autopoll.gateway.waiting import Hub
from autopoll.service import TOKEN_VARIABLE, Service

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


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """One who is let in: the home's owner, or one session of one conversation."""

    conversation: str | None = None
    session: str | None = None


OWNER = Caller()


class Call:
    """One call of a tool: who calls, whom to wait with, and whom to tell how it goes."""

    def __init__(self, hub: Hub, caller: Caller, tell: Callable[[str], Awaitable[None]]) -> None:
        self.hub = hub
        self.caller = caller
        self.tell = tell

    def sees(self, conversation: str) -> bool:
        """Tell whether the caller may see a conversation."""
        return self.caller.conversation in (None, conversation)

    def require_owner(self, what: str) -> None:
        """Raise AccessDenied unless the caller may do what concerns the whole home."""
        if self.caller.conversation is not None:
            raise AccessDenied(
                f"a conversation's token cannot {what}", "Ask the operator, or use their token."
            )


class Spoken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of every tool that is used as a session of a conversation."""

    conversation_id: ConversationId | None = None
    session_id: SessionId | None = None
    token: Token | None = None


def prove(service: Service, caller: Caller, given: Spoken) -> tuple[str, str]:
    """Return the conversation and the session that the caller may speak as.

    Raises UsageError, AccessDenied and NotFound; to whom a conversation is closed, it is not there.
    """
    if caller.conversation is not None:
        return _prove_within(service, caller.conversation, caller.session or "", given)
    conversation = given.conversation_id
    if conversation is None:
        raise UsageError(
            "conversation_id is missing",
            "Give the one that create_conversation returned, or find it in the resources.",
        )
    if given.token is None and not os.environ.get(TOKEN_VARIABLE):
        service.bridge.conversation(conversation)
        session = given.session_id or "a"
        if session not in credentials.read(service.home).tokens.get(conversation, {}):
            raise AccessDenied(
                f"nothing proves that you are session {session} of {conversation}",
                "Give the token that create_conversation returned for that session.",
            )
    return conversation, service.authenticate(conversation, given.session_id, given.token)


def _prove_within(
    service: Service, conversation: str, session: str, given: Spoken
) -> tuple[str, str]:
    """Let a conversation's token be used in its conversation only."""
    wanted = given.conversation_id or conversation
    if wanted != conversation:
        service.bridge.audit(conversation, session, "access_denied", '{"why": "not its own"}')
        raise NotFound(
            f"there is no conversation {wanted!r}", f"Your token opens {conversation} only."
        )
    proven = service.bridge.authenticate(wanted, given.token) if given.token else session
    if proven != session or given.session_id not in (None, session):
        raise AccessDenied(
            f"you are session {session} of {conversation}", "Leave session_id and token out."
        )
    return conversation, session
