"""Conversations: two sessions that talk, and the shard that answers for one of them."""

from contextlib import closing
from typing import TYPE_CHECKING

import click

from autopoll.cli import completions
from autopoll.cli.base_command import ROW_ID, CommandLine, DurationType, command, group
from autopoll.cli.output import say
from autopoll.cli.render import TEXT, Column, print_json, print_table, shortened
from autopoll.cli.whole_message import print_whole
from autopoll.clock import zoned

if TYPE_CHECKING:
    from autopoll.bridge.records import Conversation

FIELDS = '{"id","role_a","role_b","created_at","expires_at","revoked","served","messages"}'
NEWEST = 5  # messages that are shown of a conversation
SESSION = click.Choice(["a", "b"])
ROTATE = "The tokens are made and were not shown; for new ones: autopoll conversations rotate {} a"


@group("conversations", example="autopoll conversations list")
def conversations() -> None:
    """Show, create and end conversations."""


@command(
    "list",
    fields=f"{FIELDS} a line",
    group=conversations,
    example="autopoll conversations list --json",
)
def list_(cli: CommandLine) -> None:
    """Show every conversation, oldest first."""
    from autopoll.bridge.connect import connect

    with closing(connect(cli.home, cli.config, read_only=True)) as bridge:
        found = bridge.conversations.all()
    if cli.json:
        for each in found:
            print_json(each)
    else:
        _print_conversations(found)


def _print_conversations(found: "list[Conversation]") -> None:
    print_table(
        (
            Column("conversation"),
            Column("session a", 2, TEXT),
            Column("session b", 3, TEXT),
            Column("created", 4),
            Column("expires", 5),
            Column("messages"),
            Column("served by", 1),
        ),
        (
            (
                each.id,
                shortened(each.role_a) + (" (revoked)" if "a" in each.revoked else ""),
                shortened(each.role_b) + (" (revoked)" if "b" in each.revoked else ""),
                zoned(each.created_at),
                zoned(each.expires_at or "never"),
                each.messages,
                ", ".join(f"{session}: {shard}" for session, shard in each.served.items()),
            )
            for each in found
        ),
        "no conversations",
    )


@command(
    "show",
    fields=FIELDS,
    group=conversations,
    example="autopoll conversations show conv_0123456789abcdef",
)
@click.argument("conversation", shell_complete=completions.conversations)
def show(cli: CommandLine, conversation: str) -> None:
    """Show one conversation, and its newest messages."""
    from autopoll.bridge.connect import connect

    with closing(connect(cli.home, cli.config, read_only=True)) as bridge:
        found = bridge.conversations.get(conversation)
        newest = bridge.messages.find(conversation=conversation, limit=NEWEST)
    if cli.json:
        print_json(found)
        return
    served = ", ".join(f"{session} by {shard}" for session, shard in found.served.items())
    for name, value in (
        ("conversation", found.id),
        ("session a", found.role_a),
        ("session b", found.role_b),
        ("created", zoned(found.created_at)),
        ("expires", zoned(found.expires_at or "never")),
        ("revoked", ", ".join(found.revoked) or "none"),
        ("served", served or "by no shard"),
        ("messages", found.messages),
    ):
        say(f"{name:<13} {value}")
    for each in newest:
        print_whole(each)
    if found.messages > len(newest):
        say(f"\nThese are the newest; all: autopoll messages --conversation {found.id}")


@command(
    "search",
    fields='{"conversations":[…],"messages":[…],"searched","before"}\n'
    "before: where the search was cut, go on with --before this; null when all was searched",
    group=conversations,
    example="autopoll conversations search importer\n"
    "autopoll conversations search 'broken pipe' --conversation conv_0123456789abcdef",
)
@click.argument("text")
@click.option(
    "--conversation",
    metavar="ID",
    shell_complete=completions.conversations,
    help="Only in this conversation.",
)
@click.option("--before", metavar="ID", type=ROW_ID, help="Only in older messages.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="At most so many messages.",
)
@click.option(
    "--timeout", type=DurationType(), default="5s", show_default=True, help="How long to look."
)
def search_(
    cli: CommandLine,
    text: str,
    conversation: str | None,
    before: int | None,
    limit: int,
    timeout: float,
) -> None:
    """Look for TEXT in ids, roles and shards of conversations, and in their messages.

    Capitals do not matter. The newest messages are searched first, and none is marked as read.
    """
    from autopoll.bridge.connect import connect
    from autopoll.client.message_search import excerpt, search

    with closing(connect(cli.home, cli.config, read_only=True)) as bridge:
        found = search(
            bridge, text, conversation=conversation, before=before, limit=limit, seconds=timeout
        )
    if cli.json:
        print_json(found)
        return
    if found.conversations:
        _print_conversations(found.conversations)
        say()
    print_table(
        (
            Column("id"),
            Column("conversation", 3),
            Column("way", 1),
            Column("time", 2),
            Column("text", kind=TEXT),
        ),
        (
            (
                each.id,
                each.conversation,
                f"{each.sender} to {each.recipient}",
                zoned(each.timestamp),
                shortened(excerpt(each, text)),
            )
            for each in found.messages
        ),
        f"no message says so, of {found.searched:,}",
    )
    if found.before is not None:
        say(f"cut after {found.searched:,} messages; for older ones add: --before {found.before}")


@command(
    "create",
    fields='{"conversation","tokens":{"a","b"}}',
    group=conversations,
    example="autopoll conversations create --role-a coordinator --role-b reviewer --shard main",
)
@click.option("--role-a", metavar="TEXT", default="a", show_default=True, help="Who session a is.")
@click.option("--role-b", metavar="TEXT", default="b", show_default=True, help="Who session b is.")
@click.option(
    "--shard",
    metavar="NAME",
    shell_complete=completions.shards,
    help="Let this shard answer as session b.",
)
def create(cli: CommandLine, role_a: str, role_b: str, shard: str | None) -> None:
    """Create a conversation and show its two tokens, this once."""
    from autopoll.bridge.connect import connect
    from autopoll.client.client import Client

    with closing(connect(cli.home, cli.config)) as bridge:
        tokens = Client(cli.home, cli.config, bridge).converse(role_a, role_b, shard)
    cli.lost = ROTATE.format(tokens.conversation)
    if cli.json:
        print_json({"conversation": tokens.conversation, "tokens": {"a": tokens.a, "b": tokens.b}})
    else:
        say(f"conversation  {tokens.conversation}")
        say(f"token of a    {tokens.a}")
        say(f"token of b    {tokens.b}")
        say("Keep the tokens now; they are not shown again.", err=True)


@command(
    "rotate",
    fields='{"conversation","session","token","kept"}   # token: null when it is kept',
    group=conversations,
    example="autopoll conversations rotate conv_0123456789abcdef a",
)
@click.argument("conversation", shell_complete=completions.conversations)
@click.argument("session", type=SESSION)
def rotate(cli: CommandLine, conversation: str, session: str) -> None:
    """Replace the token of SESSION; the old one ends at once. Shows the new one, this once.

    A token that the home keeps in var/credentials is replaced there and not shown.
    """
    from autopoll.bridge.connect import connect
    from autopoll.client.home_sessions import HomeSessions

    with closing(connect(cli.home, cli.config)) as bridge:
        token = bridge.conversations.rotate_token(conversation, session)
        kept = HomeSessions(cli.home, bridge).keep_token(conversation, session, token)
    cli.lost = "The token is made and was not shown; run it again for another."
    if cli.json:
        shown = None if kept else token
        print_json({"conversation": conversation, "session": session, "token": shown, "kept": kept})
    elif kept:
        say(f"the token of session {session} is replaced in {cli.home.credentials}")
    else:
        say(token)
        say("Keep the token now; it is not shown again.", err=True)


@command(
    "revoke",
    fields='{"conversation","session","revoked"}',
    group=conversations,
    example="autopoll conversations revoke conv_0123456789abcdef b",
)
@click.argument("conversation", shell_complete=completions.conversations)
@click.argument("session", type=SESSION)
def revoke(cli: CommandLine, conversation: str, session: str) -> None:
    """End the token of SESSION without a new one; `rotate` gives it one again."""
    from autopoll.bridge.connect import connect

    with closing(connect(cli.home, cli.config)) as bridge:
        bridge.conversations.revoke_token(conversation, session)
    if cli.json:
        print_json({"conversation": conversation, "session": session, "revoked": True})
    else:
        say(f"session {session} of {conversation} has no token any more")
