"""Resources: what was said in a conversation, read without taking anything."""

import re
from collections.abc import Callable
from typing import TypeVar

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, Resource, ResourceTemplate, TextResourceContents

from autopoll.bridge.records import Conversation, Message
from autopoll.clock import zoned
from autopoll.errors import AutopollError, BadQuery, NotFound
from autopoll.gateway import strict_json
from autopoll.gateway.mcp.call import Call
from autopoll.gateway.usecases import UseCases
from autopoll.message import read_answer, read_query

T = TypeVar("T")

KIND = "text/markdown"
LISTED = 200  # conversations, the newest
MESSAGES = 200  # of one conversation, the newest
SHOWN = 50_000  # characters of one message
TEMPLATE = ResourceTemplate(
    uri_template="autopoll://conversations/{id}",
    name="conversation",
    title="Conversation",
    description=f"What was said in a conversation: the newest {MESSAGES} messages.",
    mime_type=KIND,
)
_URI = re.compile(r"autopoll://conversations/([^/?#]{1,200})")


async def listed(call: Call) -> list[Resource]:
    """Return the transcripts that the caller may read, the newest conversation first."""
    return [
        Resource(
            uri=uri_of(each.id),
            name=each.id,
            title=f"{each.role_a} and {each.role_b}",
            description=_summary(each),
            mime_type=KIND,
        )
        for each in (await call.use(conversations))[:LISTED]
    ]


def conversations(use: UseCases) -> list[Conversation]:
    """Return the conversations that the caller may see, the newest first."""
    only = use.caller.conversation
    return [use.conversation(only)] if only else use.conversations()[::-1]


def uri_of(conversation: str) -> str:
    """Return the URI of a conversation's transcript."""
    return f"autopoll://conversations/{conversation}"


async def find(call: Call, uri: str) -> str:
    """Return the conversation whose transcript this is; raise MCPError as `read` does."""
    return await _visible(call, uri, lambda use, conversation: use.conversation(conversation).id)


async def read(call: Call, uri: str) -> TextResourceContents:
    """Return a conversation; raise MCPError for what is none that the caller may see."""

    def look(use: UseCases, conversation: str) -> tuple[Conversation, list[Message]]:
        return use.conversation(conversation), use.messages(conversation, limit=MESSAGES)

    conversation, messages = await _visible(call, uri, look)
    return TextResourceContents(
        uri=uri, mime_type=KIND, text=strict_json.text(_transcript(conversation, messages))
    )


async def _visible(call: Call, uri: str, look: Callable[[UseCases, str], T]) -> T:
    """Return what `look` finds of a URI's conversation; raise its errors as the protocol's."""

    def seen(use: UseCases) -> T:
        match = _URI.fullmatch(uri)
        if match is None:
            raise NotFound(f"there is no resource {uri[:300]}")
        return look(use, match[1])

    try:
        return await call.use(seen)
    except AutopollError as error:
        # A resource has no other way to say so than the protocol's.
        raise MCPError(INVALID_PARAMS, error.what, {"uri": uri[:300]}) from None


def _summary(conversation: Conversation) -> str:
    served = ", ".join(f"{name} is shard {shard}" for name, shard in conversation.served.items())
    return f"{conversation.messages} messages" + (f"; session {served}" if served else "")


def _transcript(conversation: Conversation, messages: list[Message]) -> str:
    parts = [
        f"# {conversation.id}\n\nSession a: {conversation.role_a}. "
        f"Session b: {conversation.role_b}. {_summary(conversation)}.\n"
    ]
    if len(messages) < conversation.messages:
        parts.append(f"Only the newest {len(messages)} messages follow.\n")
    for each in messages:
        text, sources = _said(each)
        cut = f"\n\n({len(text) - SHOWN} more characters)" if len(text) > SHOWN else ""
        parts.append(
            f"## {each.id}, {each.sender} to {each.recipient}, {zoned(each.timestamp)}\n\n"
            f"{text[:SHOWN]}{cut}{sources}\n"
        )
    return "\n".join(parts)


def _said(message: Message) -> tuple[str, str]:
    """Return a message's text as people read it, and its line of sources."""
    try:
        return read_query(message.text, message.metadata).question, ""
    except BadQuery:
        answer = read_answer(message.text, message.metadata)
    return answer.text, f"\n\nSources: {', '.join(answer.sources)}" if answer.sources else ""
