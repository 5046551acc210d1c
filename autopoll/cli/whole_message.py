"""A message as people read it."""

from typing import TYPE_CHECKING

from autopoll.cli.output import say
from autopoll.clock import zoned
from autopoll.message import read_content

if TYPE_CHECKING:
    from autopoll.bridge.records import Message


def print_whole(message: "Message") -> None:
    """Print what people read of a message, under a line that names it."""
    content = read_content(message.text, message.metadata)
    way = f"from {message.sender}, {zoned(message.timestamp)}"
    say(f"--- message {message.id}, {way}")
    say(content.text)
    if content.sources:
        say(f"Sources: {', '.join(content.sources)}")
