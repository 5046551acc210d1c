"""One call of a tool: who calls, what is at hand to serve it, and as whom it is carried out."""

import os
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

import msgspec

from autopoll.client.home_sessions import TOKEN_VARIABLE
from autopoll.errors import AccessDenied, UsageError
from autopoll.gateway.usecases import CallerAccess, UseCases
from autopoll.home import credentials

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


class Call:
    """What a tool is given beside its arguments.

    `use` carries out a use-case as the caller, `ask` stores a question of the caller's; `report`
    tells a caller that `listens` how it goes.
    """

    def __init__(
        self, access: CallerAccess, report: Callable[[str], Awaitable[None]], *, listens: bool
    ) -> None:
        self.access = access
        self.hub = access.hub
        self.use = access.call
        self.ask = access.ask
        self.report = report
        self.listens = listens


class ToolReply(msgspec.Struct, frozen=True):
    """A tool's structured result; a note for whoever reads the text; whether it is a failure."""

    value: msgspec.Struct
    note: str = ""
    failed: bool = False


class SpeakerArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of every tool that is used as a session of a conversation."""

    conversation_id: ConversationId | None = None
    session_id: SessionId | None = None
    token: Token | None = None


def claim(use: UseCases, given: SpeakerArguments) -> tuple[str, str | None, str | None]:
    """Return what a caller says it speaks as, for `UseCases.speaker` to prove.

    Raises UsageError; AccessDenied and NotFound where the home keeps no token for it.
    """
    conversation = given.conversation_id or use.caller.conversation
    if conversation is None:
        raise UsageError(
            "conversation_id is missing",
            "Give the one that create_conversation returned, or find it in the resources.",
        )
    token = given.token
    if use.caller.is_operator and token is None:
        token = os.environ.get(TOKEN_VARIABLE) or None
        if token is None:
            _require_kept(use, conversation, given.session_id or "a")
    return conversation, given.session_id, token


def _require_kept(use: UseCases, conversation: str, session: str) -> None:
    """Raise AccessDenied for a session whose token the home does not keep."""
    use.conversation(conversation)
    if session not in credentials.read(use.client.home).tokens.get(conversation, {}):
        raise AccessDenied(
            f"nothing proves that you are session {session} of {conversation}",
            "Give the token that create_conversation returned for that session.",
        )
