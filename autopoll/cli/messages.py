"""The bare bridge: send and take as a session, look as the operator."""

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.conversations import SESSION
from autopoll.cli.output import say
from autopoll.cli.question_input import read_question
from autopoll.cli.render import print_json, print_table, shortened
from autopoll.clock import zoned

if TYPE_CHECKING:
    from autopoll.bridge.protocols import Bridge
    from autopoll.bridge.records import Message

FIELDS = '{"id","conversation","sender","recipient","text","metadata","timestamp","read"}'
FOLLOW_S = 0.2

token_option = click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The session's token (- for stdin); else AUTOPOLL_TOKEN, else what the home keeps.",
)
session_option = click.option(
    "--session", type=SESSION, help="The session to be; else whichever the token proves."
)


@command(
    "send",
    fields='{"id","conversation","session"}',
    example="autopoll send conv_0123456789abcdef 'How are the tests?'\n"
    "autopoll send conv_0123456789abcdef - --token-file token < question.json",
)
@click.argument("conversation")
@click.argument("text")
@click.option("--metadata", metavar="JSON", help="A JSON object to store with the message.")
@session_option
@token_option
def send(
    cli: CommandLine,
    conversation: str,
    text: str,
    metadata: str | None,
    session: str | None,
    token_file: Path | None,
) -> None:
    """Send TEXT (- reads it from stdin) as a session to its partner.

    Messages of a conversation are answered one by one, in order.
    """
    from autopoll.bridge.connect import connect
    from autopoll.client.client import Client
    from autopoll.client.home_sessions import read_token

    token = read_token(token_file) if token_file else None
    message = read_question(text, cli.config.delivery.max_message)
    with closing(connect(cli.home, cli.config)) as bridge:
        client = Client(cli.home, cli.config, bridge)
        proven = client.sessions.authenticate(conversation, session, token)
        message_id = client.send(conversation, proven, message, metadata)
    if cli.json:
        print_json({"id": message_id, "conversation": conversation, "session": proven})
    else:
        say(f"{message_id}")


@command(
    "inbox",
    fields=f"{FIELDS} a line",
    example="autopoll inbox conv_0123456789abcdef --json",
)
@click.argument("conversation")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="At most so many.",
)
@session_option
@token_option
def inbox(
    cli: CommandLine, conversation: str, limit: int, session: str | None, token_file: Path | None
) -> None:
    """Take the unread messages of a session: they are shown and marked as read."""
    from autopoll.bridge.connect import connect
    from autopoll.client.client import Client
    from autopoll.client.home_sessions import read_token

    token = read_token(token_file) if token_file else None
    with closing(connect(cli.home, cli.config)) as bridge:
        client = Client(cli.home, cli.config, bridge)
        proven = client.sessions.authenticate(conversation, session, token)
        taken = client.inbox(conversation, proven, limit)
    if cli.json:
        for each in taken:
            print_json(each)
    elif not taken:
        say("no unread messages")
    else:
        for each in taken:
            say(f"--- message {each.id}, from {each.sender}, {zoned(each.timestamp)}")
            say(each.text)


@command(
    "messages",
    fields=f"{FIELDS} a line",
    example="autopoll messages --unread\nautopoll messages --type response --follow",
)
@click.option("--conversation", metavar="ID", help="Only of this conversation.")
@click.option("--session", type=SESSION, help="Only what was sent to this session.")
@click.option("--unread", is_flag=True, help="Only what waits: to be answered, or to be read.")
@click.option("--type", "kind", metavar="TYPE", help="Only this type: query, response, text, …")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    help="The newest so many.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on with new ones until Ctrl-C.")
def messages(
    cli: CommandLine,
    conversation: str | None,
    session: str | None,
    unread: bool,
    kind: str | None,
    limit: int,
    follow: bool,
) -> None:
    """Show messages without taking them; looking changes nothing.

    With --unread: questions that have no answer yet, whether or not a poller has taken them, and
    what a session has still to read with `inbox`; no answers to `ask`. Times are UTC.
    """
    from autopoll.bridge.connect import connect

    with closing(connect(cli.home, cli.config, read_only=True)) as bridge:
        if conversation is not None:
            bridge.conversations.get(conversation)

        def look(after: int) -> "list[Message]":
            return bridge.messages.find(
                conversation=conversation,
                session=session,
                waiting=unread,
                kind=kind,
                after=after,
                limit=limit,
            )

        found = look(0)
        _print_messages(cli, found, follow)
        last = found[-1].id if found else 0
        while follow:
            _wait_for_change(bridge)
            for each in look(last):
                _print_messages(cli, [each], follow)
                last = each.id


def _wait_for_change(bridge: "Bridge") -> None:
    while not bridge.changed():
        time.sleep(FOLLOW_S)
        bridge.require_in_place()


def _print_messages(cli: CommandLine, found: "list[Message]", follow: bool) -> None:
    if cli.json:
        for each in found:
            print_json(each)
    elif follow:
        for each in found:
            say(f"{each.id} {each.conversation} {_way(each)}  {shortened(each.text)}")
    else:
        print_table(
            ("id", "conversation", "way", "time", "read", "text"),
            (
                (
                    each.id,
                    each.conversation,
                    _way(each),
                    zoned(each.timestamp),
                    "yes" if each.read else "no",
                    shortened(each.text),
                )
                for each in found
            ),
            "no messages",
        )


def _way(message: "Message") -> str:
    return f"{message.sender} to {message.recipient}"
