"""Letting a shard answer a session of a conversation."""

from contextlib import closing

import click

from autopoll.cli import completions
from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.conversations import SESSION
from autopoll.cli.output import say
from autopoll.cli.render import print_json


@command(
    "serve",
    fields='{"conversation","session","shard"}   # shard: null with --stop',
    example="autopoll serve conv_0123456789abcdef --session b --shard main",
)
@click.argument("conversation", shell_complete=completions.conversations)
@click.option(
    "--session", type=SESSION, default="b", show_default=True, help="The session that answers."
)
@click.option(
    "--shard",
    metavar="NAME",
    shell_complete=completions.shards,
    help="The shard that answers for it.",
)
@click.option("--stop", is_flag=True, help="Answer no more; what is taken already is answered.")
def serve(cli: CommandLine, conversation: str, session: str, shard: str | None, stop: bool) -> None:
    """Let a shard answer a session of CONVERSATION, also one made by another bridge client."""
    from autopoll.bridge.connect import connect
    from autopoll.client.home_sessions import HomeSessions
    from autopoll.errors import UsageError
    from autopoll.process.nudge import nudge

    if (shard is None) != stop:
        raise UsageError("give either --shard NAME or --stop", "See: autopoll serve --help")
    with closing(connect(cli.home, cli.config)) as bridge:
        if shard is None:
            bridge.conversations.unserve(conversation, session)
        else:
            HomeSessions(cli.home, bridge).require_shards([shard], cli.config)
            bridge.conversations.serve(conversation, session, shard)
        nudge(cli.home)
    if cli.json:
        print_json({"conversation": conversation, "session": session, "shard": shard})
    elif shard is None:
        say(f"session {session} of {conversation} is not served any more")
    else:
        say(f"session {session} of {conversation} is answered by shard {shard}")
