"""Pausing a shard by hand, and resuming it."""

import click

from autopoll.cli import completions
from autopoll.cli.base_command import CommandLine, DurationType, command
from autopoll.cli.output import say
from autopoll.cli.render import print_json
from autopoll.errors import Exit


@command(
    "pause",
    fields='{"shard","by","since","until","reason","words"}   # times in ms since 1970',
    example="autopoll pause history --reason 'new notes' --for 30m",
)
@click.argument("shard", shell_complete=completions.shards)
@click.option("--reason", metavar="TEXT", default="", help="Why, for whoever asks or looks.")
@click.option(
    "--for", "span", metavar="TIME", type=DurationType(), help="Resume by itself after so long."
)
def pause(cli: CommandLine, shard: str, reason: str, span: float | None) -> None:
    """Claim nothing more for a shard; what is under way is finished, and questions are kept.

    The pause holds over restarts of the home and of the machine, until `autopoll resume`. It is of
    this home: others that share the bridge and serve the shard go on.
    """
    from autopoll.home.operation_log import operator_name
    from autopoll.ops.pausing import pause as hold

    made = hold(cli.home, cli.config, shard, operator_name(), reason, span)
    if cli.json:
        print_json(made)
    else:
        say(f"shard {shard} is paused {made.words}")


@command(
    "resume",
    fields='{"shard","ended":[…],"paused"}   # paused: why it is paused all the same, or null',
    example="autopoll resume history",
)
@click.argument("shard", shell_complete=completions.shards)
def resume(cli: CommandLine, shard: str) -> int:
    """End the pause of a shard: one by hand, and one for a quota, an overload or a login.

    A question is tried at once. A used-up budget stays, which exits with 1.
    """
    from autopoll.home.operation_log import operator_name
    from autopoll.ops.pausing import resume as go_on

    done = go_on(cli.home, cli.config, shard, operator_name())
    code = cli.code = Exit.FAILED if done.paused else Exit.OK
    if cli.json:
        print_json(done)
        return code
    for words in done.ended:
        say(f"shard {shard} is resumed; it was paused {words}")
    if done.paused:
        say(f"shard {shard} is paused {done.paused}")
    elif not done.ended:
        say(f"shard {shard} is not paused")
    return code
