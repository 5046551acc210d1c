"""The bare bridge: send and take as a session, look as the operator."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autopoll.cli import completions
from autopoll.cli.base_command import ROW_ID, CommandLine, command
from autopoll.cli.conversations import SESSION
from autopoll.cli.output import say
from autopoll.cli.question_input import read_question
from autopoll.cli.render import TEXT, Column, print_json, shortened
from autopoll.cli.whole_message import print_whole
from autopoll.clock import zoned
from autopoll.message import read_content

if TYPE_CHECKING:
    from autopoll.bridge.protocols import Bridge
    from autopoll.bridge.records import Message

FIELDS = '{"id","conversation","sender","recipient","text","metadata","timestamp","read"}'
COLUMNS = (
    Column("id"),
    Column("conversation", 5),
    Column("way", 1),
    Column("type", 2),
    Column("time", 3),
    Column("read", 4),
    Column("text", kind=TEXT),
)

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
@click.argument("conversation", shell_complete=completions.conversations)
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
@click.argument("conversation", shell_complete=completions.conversations)
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
            print_whole(each)


@command(
    "messages",
    fields=f"{FIELDS} a line",
    example="autopoll messages --unread\nautopoll messages --type response --follow",
)
@click.option(
    "--conversation",
    metavar="ID",
    shell_complete=completions.conversations,
    help="Only of this conversation.",
)
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
@click.option("--before", metavar="ID", type=ROW_ID, help="Only older ones than this.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new ones until Ctrl-C.")
def messages(
    cli: CommandLine,
    conversation: str | None,
    session: str | None,
    unread: bool,
    kind: str | None,
    limit: int,
    before: int | None,
    follow: bool,
) -> None:
    """Show messages without taking them; looking changes nothing.

    With --unread: questions that have no answer yet, whether or not a poller has taken them, and
    what a session has still to read with `inbox`; no answers to `ask`. Times are UTC. With
    --follow each new message comes once, also where the bridge is away for a while.
    """
    from autopoll.cli.bridge_listing import BridgeListing, show
    from autopoll.errors import UsageError

    if follow and before is not None:
        raise UsageError("give either --before or --follow", "See: autopoll messages --help")

    def look(bridge: "Bridge", after: int, most: int) -> "list[Message]":
        return bridge.messages.find(
            conversation=conversation,
            session=session,
            waiting=unread,
            kind=kind,
            after=after,
            before=before,
            limit=most,
        )

    listing = BridgeListing(
        columns=COLUMNS,
        cells=_cells,
        record=lambda message: message,
        none="no messages",
        newest=lambda bridge: bridge.messages.newest(),
        look=look,
    )
    show(cli, listing, conversation=conversation, limit=limit, follow=follow)


def _cells(message: "Message") -> tuple[object, ...]:
    content = read_content(message.text, message.metadata)
    return (
        message.id,
        message.conversation,
        f"{message.sender} to {message.recipient}",
        shortened(content.type, 12),
        zoned(message.timestamp),
        "yes" if message.read else "no",
        shortened(content.text),
    )
