"""Looking for words in conversations and in what was said there; marks nothing as read."""

import time
from typing import TYPE_CHECKING

import msgspec

from autopoll.bridge.records import Conversation, Message
from autopoll.errors import UsageError
from autopoll.message import read_content

if TYPE_CHECKING:
    from autopoll.bridge.protocols import Bridge

PAGE = 500  # messages of one look
_AHEAD = 16  # characters before the words that are shown with them


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, oldest first, among so many of the newest messages.

    `before` is None when all were searched, else the number from which on they were: the search is
    continued before it.
    """

    conversations: list[Conversation]
    messages: list[Message]
    searched: int
    before: int | None


def search(
    bridge: "Bridge",
    words: str,
    *,
    conversation: str | None,
    before: int | None,
    limit: int,
    seconds: float,
) -> SearchResult:
    """Look for words, in any case, in ids, roles and shards of conversations and in messages.

    Messages are searched from the newest on: in the question, the answer or the text, until so many
    are found or the time is over. Raises UsageError for no words, and NotFound.
    """
    wanted = " ".join(words.split()).casefold()
    if not wanted:
        raise UsageError("there is nothing to look for", "Give a word.")
    end = time.monotonic() + seconds
    if conversation is None:
        listed = [] if before else bridge.conversations.all()
    else:
        listed = [bridge.conversations.get(conversation)]
    matching = [each for each in listed if _is_about(each, wanted)]
    found: list[Message] = []
    searched = 0
    while True:
        page = bridge.messages.find(conversation=conversation, before=before, limit=PAGE)
        if not page:
            before = None
            break
        for message in reversed(page):
            searched += 1
            before = message.id
            if wanted in _folded(message):
                found.append(message)
            if len(found) == limit:
                break
        if len(found) == limit or time.monotonic() > end:
            break
    return SearchResult(
        conversations=matching, messages=found[::-1], searched=searched, before=before
    )


def excerpt(message: Message, words: str) -> str:
    """Return what a message says from shortly before these words on."""
    text = " ".join(read_content(message.text, message.metadata).text.split())
    place = text.casefold().find(" ".join(words.split()).casefold())
    return text if place <= _AHEAD else f"…{text[place - _AHEAD :]}"


def _folded(message: Message) -> str:
    return " ".join(read_content(message.text, message.metadata).text.split()).casefold()


def _is_about(conversation: Conversation, wanted: str) -> bool:
    names = (conversation.id, conversation.role_a, conversation.role_b)
    return any(wanted in name.casefold() for name in (*names, *conversation.served.values()))
