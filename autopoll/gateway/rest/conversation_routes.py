"""Conversations over REST: the bare bridge, as a session, or looked at by the operator."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from autopoll.bridge.records import Conversation, Message, Presence, Tokens
from autopoll.gateway import strict_json
from autopoll.gateway.rest.bearer_access import BearerAccess
from autopoll.gateway.rest.bodies import JsonRoute
from autopoll.gateway.rest.openapi import problems, record, send
from autopoll.gateway.usecases import UseCases

router = APIRouter(prefix="/v1/conversations", tags=["conversations"], route_class=JsonRoute)

Name = Annotated[str, Path(max_length=200, description="The id of the conversation.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]


class ConversationList(msgspec.Struct, frozen=True):
    """All conversations, oldest first."""

    conversations: list[Conversation]


class MessageList(msgspec.Struct, frozen=True):
    """Messages, oldest first."""

    messages: list[Message]


class Stored(msgspec.Struct, frozen=True):
    """The number of a message that is stored."""

    id: int


class SessionStatusList(msgspec.Struct, frozen=True):
    """What both sessions last said of themselves."""

    sessions: list[Presence]


class NewConversation(BaseModel):
    """Who talks in a conversation, and which shard answers session b, if one does."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role_a: str = Field("a", min_length=1, max_length=200)
    role_b: str = Field("b", min_length=1, max_length=200)
    shard: str | None = None


class NewMessage(BaseModel):
    """A message to the partner."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(min_length=1)
    metadata: dict[str, object] | None = None


class NewStatus(BaseModel):
    """What a session is doing, in a word."""

    model_config = ConfigDict(extra="forbid", strict=True)

    status: str = Field(min_length=1, max_length=200)


@router.get(
    "",
    summary="List all conversations (operator)",
    response_class=Response,
    responses={200: record(ConversationList, "All of them, without tokens."), **problems()},
)
async def list_all(access: BearerAccess) -> Response:
    """Return every conversation of the bridge."""
    return send(ConversationList(await access.call(UseCases.conversations)))


@router.post(
    "",
    status_code=201,
    summary="Create a conversation (operator)",
    response_class=Response,
    responses={
        201: record(
            Tokens, "Its id and its two tokens, shown this once.", {"Location": "Where it is."}
        ),
        **problems(404),
    },
)
async def create(access: BearerAccess, new: NewConversation) -> Response:
    """Create a conversation of two sessions."""
    tokens = await access.call(
        lambda use: use.create_conversation(new.role_a, new.role_b, new.shard)
    )
    headers = {"Location": f"/v1/conversations/{tokens.conversation}", "Cache-Control": "no-store"}
    return send(tokens, 201, headers)


@router.get(
    "/{conversation}",
    summary="Show a conversation",
    response_class=Response,
    responses={200: record(Conversation, "Never with tokens."), **problems(404)},
)
async def show(access: BearerAccess, conversation: Name) -> Response:
    """Return one conversation."""
    return send(await access.call(lambda use: use.conversation(conversation)))


@router.get(
    "/{conversation}/messages",
    summary="Look at messages without taking them",
    response_class=Response,
    responses={200: record(MessageList, "The newest, or those after a number."), **problems(404)},
)
async def look(
    access: BearerAccess,
    conversation: Name,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="Only beyond this id.")] = 0,
    unread: Annotated[bool, Query(description="Only those nobody has taken.")] = False,
    limit: Limit = 100,
) -> Response:
    """Return messages of both sessions; nothing is marked as read."""
    found = await access.call(
        lambda use: use.messages(conversation, after=after, unread=unread, limit=limit)
    )
    return send(MessageList(found))


@router.post(
    "/{conversation}/messages",
    status_code=201,
    summary="Send a message to the partner",
    response_class=Response,
    responses={201: record(Stored, "It is stored."), **problems(404, 429)},
)
async def send_message(access: BearerAccess, conversation: Name, message: NewMessage) -> Response:
    """Store a message; messages of one conversation are answered in order."""
    metadata = None
    if message.metadata is not None:
        metadata = strict_json.encode(message.metadata).decode()
    number = await access.call(
        lambda use: use.send(conversation, text=message.text, metadata=metadata)
    )
    return send(Stored(number), 201)


@router.post(
    "/{conversation}/inbox",
    summary="Take unread messages",
    response_class=Response,
    responses={200: record(MessageList, "They are marked as read."), **problems(404)},
)
async def take(access: BearerAccess, conversation: Name, limit: Limit = 100) -> Response:
    """Take the unread messages of the session that the token proves."""
    taken = await access.call(lambda use: use.inbox(conversation, limit=limit))
    return send(MessageList(taken))


@router.get(
    "/{conversation}/status",
    summary="See what both sessions are doing",
    response_class=Response,
    responses={200: record(SessionStatusList, "As they last said."), **problems(404)},
)
async def statuses(access: BearerAccess, conversation: Name) -> Response:
    """Return what both sessions last said of themselves, and whether they are alive."""
    found = await access.call(
        lambda use: [use.presence(conversation, session) for session in ("a", "b")]
    )
    return send(SessionStatusList(found))


@router.put(
    "/{conversation}/status",
    status_code=204,
    summary="Say what you are doing",
    response_class=Response,
    responses={204: {"description": "The partner can see it."}, **problems(404)},
)
async def say(access: BearerAccess, conversation: Name, new: NewStatus) -> Response:
    """Let the partner see what the session is doing, and that it is alive."""
    await access.call(lambda use: use.set_status(conversation, status=new.status))
    return Response(status_code=204)
