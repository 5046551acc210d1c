"""Conversations over REST: the bare bridge, as a session, or looked at by the operator."""

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from autopoll.bridge.records import Conversation, Message, Presence, Tokens
from autopoll.client.client import Client
from autopoll.errors import NotFound
from autopoll.gateway import strict_json
from autopoll.gateway.access import Caller, Visiting
from autopoll.gateway.bodies import JsonRoute
from autopoll.gateway.rest.openapi import problems, record, send
from autopoll.gateway.rest.question_routes import own_session

router = APIRouter(prefix="/v1/conversations", tags=["conversations"], route_class=JsonRoute)

Name = Annotated[str, Path(max_length=200, description="The id of the conversation.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]


class Conversations(msgspec.Struct, frozen=True):
    """All conversations, oldest first."""

    conversations: list[Conversation]


class Messages(msgspec.Struct, frozen=True):
    """Messages, oldest first."""

    messages: list[Message]


class Stored(msgspec.Struct, frozen=True):
    """The number of a message that is stored."""

    id: int


class Presences(msgspec.Struct, frozen=True):
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
    responses={200: record(Conversations, "All of them, without tokens."), **problems()},
)
async def list_all(visit: Visiting) -> Response:
    """Return every conversation of the bridge."""
    found = await visit.operate(lambda client: client.bridge.conversations.all())
    return send(Conversations(found))


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
async def create(visit: Visiting, new: NewConversation) -> Response:
    """Create a conversation of two sessions."""
    tokens = await visit.operate(lambda client: client.converse(new.role_a, new.role_b, new.shard))
    headers = {"Location": f"/v1/conversations/{tokens.conversation}", "Cache-Control": "no-store"}
    return send(tokens, 201, headers)


@router.get(
    "/{conversation}",
    summary="Show a conversation",
    response_class=Response,
    responses={200: record(Conversation, "Never with tokens."), **problems(404)},
)
async def show(visit: Visiting, conversation: Name) -> Response:
    """Return one conversation."""
    return send(
        await visit.call(
            lambda client, caller: client.bridge.conversations.get(seen(caller, conversation))
        )
    )


@router.get(
    "/{conversation}/messages",
    summary="Look at messages without taking them",
    response_class=Response,
    responses={200: record(Messages, "The newest, or those after a number."), **problems(404)},
)
async def look(
    visit: Visiting,
    conversation: Name,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="Only beyond this id.")] = 0,
    unread: Annotated[bool, Query(description="Only those nobody has taken.")] = False,
    limit: Limit = 100,
) -> Response:
    """Return messages of both sessions; nothing is marked as read."""
    found = await visit.call(
        lambda client, caller: client.bridge.messages.find(
            conversation=seen(caller, conversation), after=after, unread=unread, limit=limit
        )
    )
    return send(Messages(found))


@router.post(
    "/{conversation}/messages",
    status_code=201,
    summary="Send a message to the partner",
    response_class=Response,
    responses={201: record(Stored, "It is stored."), **problems(404, 429)},
)
async def send_message(visit: Visiting, conversation: Name, message: NewMessage) -> Response:
    """Store a message; messages of one conversation are answered in order."""
    metadata = None
    if message.metadata is not None:
        metadata = strict_json.encode(message.metadata).decode()
    number = await visit.call(
        lambda client, caller: client.send(
            conversation, _speaker(client, caller, conversation), message.text, metadata
        )
    )
    return send(Stored(number), 201)


@router.post(
    "/{conversation}/inbox",
    summary="Take unread messages",
    response_class=Response,
    responses={200: record(Messages, "They are marked as read."), **problems(404)},
)
async def take(visit: Visiting, conversation: Name, limit: Limit = 100) -> Response:
    """Take the unread messages of the session that the token proves."""
    taken = await visit.call(
        lambda client, caller: client.inbox(
            conversation, _speaker(client, caller, conversation), limit
        )
    )
    return send(Messages(taken))


@router.get(
    "/{conversation}/status",
    summary="See what both sessions are doing",
    response_class=Response,
    responses={200: record(Presences, "As they last said."), **problems(404)},
)
async def statuses(visit: Visiting, conversation: Name) -> Response:
    """Return what both sessions last said of themselves, and whether they are alive."""
    sessions: tuple[Literal["a", "b"], ...] = ("a", "b")
    found = await visit.call(
        lambda client, caller: [
            client.bridge.conversations.presence(seen(caller, conversation), each)
            for each in sessions
        ]
    )
    return send(Presences(found))


@router.put(
    "/{conversation}/status",
    status_code=204,
    summary="Say what you are doing",
    response_class=Response,
    responses={204: {"description": "The partner can see it."}, **problems(404)},
)
async def say(visit: Visiting, conversation: Name, new: NewStatus) -> Response:
    """Let the partner see what the session is doing, and that it is alive."""
    await visit.call(
        lambda client, caller: client.set_status(
            conversation, _speaker(client, caller, conversation), new.status
        )
    )
    return Response(status_code=204)


def seen(caller: Caller, conversation: str) -> str:
    """Return a conversation's id, for whom it is there; raise NotFound as if there were none."""
    if not caller.sees(conversation):
        raise NotFound(
            f"there is no conversation {conversation!r}", "List them with: autopoll conversations"
        )
    return conversation


def _speaker(client: Client, caller: Caller, conversation: str) -> str:
    """Return as which session somebody speaks; the operator as the home's own, session a."""
    seen(caller, conversation)
    return caller.session or own_session(client, conversation)
