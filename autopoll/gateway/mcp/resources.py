"""Resources: what was said in a conversation, read without taking anything."""

import re

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, Resource, ResourceTemplate, TextResourceContents

from autopoll.bridge.records import Conversation, Message
from autopoll.clock import zoned
from autopoll.errors import AutopollError, BadQuery, NotFound
from autopoll.gateway import strict_json
from autopoll.gateway.mcp.call import Call
from autopoll.gateway.usecases import UseCases
from autopoll.message import read_answer, read_query

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
    """Return the conversations that the caller may see, the newest first."""

    def find(use: UseCases) -> list[Conversation]:
        only = use.caller.conversation
        return [use.conversation(only)] if only else use.conversations()[-LISTED:]

    found = await call.use(find)
    return [
        Resource(
            uri=f"autopoll://conversations/{each.id}",
            name=each.id,
            title=f"{each.role_a} and {each.role_b}",
            description=_summary(each),
            mime_type=KIND,
        )
        for each in reversed(found)
    ]


async def read(call: Call, uri: str) -> TextResourceContents:
    """Return a conversation; raise MCPError for what is none that the caller may see."""

    def look(use: UseCases) -> tuple[Conversation, list[Message]]:
        match = _URI.fullmatch(uri)
        if match is None:
            raise NotFound(f"there is no resource {uri[:300]}")
        return use.conversation(match[1]), use.messages(match[1], limit=MESSAGES)

    try:
        conversation, messages = await call.use(look)
    except AutopollError as error:
        # A resource has no other way to say so than the protocol's.
        raise MCPError(INVALID_PARAMS, error.what, {"uri": uri[:300]}) from None
    return TextResourceContents(
        uri=uri, mime_type=KIND, text=strict_json.text(_transcript(conversation, messages))
    )


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
