"""Dead letters: questions whose attempts are used up."""

from contextlib import closing

import click

from autopoll.cli.base_command import CommandLine, command, group
from autopoll.cli.output import say
from autopoll.cli.render import print_json, print_table, shortened
from autopoll.errors import NotFound

FIELDS = '{"message_id","conversation","shard","attempts","last_error","settled_at","text"}'
MESSAGE_ID = click.IntRange(1, 2**63 - 1)


@group("dead", example="autopoll dead list")
def dead() -> None:
    """Show, retry and drop dead letters."""


@command(
    "list",
    fields=f"{FIELDS} a line",
    group=dead,
    example="autopoll dead list --json",
)
def list_(cli: CommandLine) -> None:
    """Show every dead letter, oldest first."""
    from autopoll.bridge.connect import connect

    with closing(connect(cli.home, cli.config, read_only=True)) as bridge:
        found = bridge.overview.dead_letters()
    if cli.json:
        for each in found:
            print_json(each)
        return
    print_table(
        ("id", "shard", "attempts", "last error", "text"),
        (
            (
                each.message_id,
                each.shard,
                each.attempts,
                shortened(each.last_error, 48),
                shortened(each.text, 48),
            )
            for each in found
        ),
        "no dead letters",
    )


@command(
    "show",
    fields=FIELDS,
    group=dead,
    example="autopoll dead show 42",
)
@click.argument("message_id", metavar="ID", type=MESSAGE_ID)
def show(cli: CommandLine, message_id: int) -> None:
    """Show one dead letter whole."""
    from autopoll.bridge.connect import connect

    with closing(connect(cli.home, cli.config, read_only=True)) as bridge:
        found = next(
            (each for each in bridge.overview.dead_letters() if each.message_id == message_id), None
        )
    if found is None:
        raise NotFound(f"there is no dead letter {message_id}", "See: autopoll dead list")
    if cli.json:
        print_json(found)
        return
    say(f"shard       {found.shard}")
    say(f"attempts    {found.attempts}")
    say(f"last error  {found.last_error}")
    say(f"\n{found.text}")


@command("retry", fields='{"id","retries"}', group=dead, example="autopoll dead retry 42")
@click.argument("message_id", metavar="ID", type=MESSAGE_ID)
def retry(cli: CommandLine, message_id: int) -> None:
    """Ask a dead letter again, as a new question; its error answer stands."""
    from autopoll.bridge.connect import connect
    from autopoll.process.nudge import nudge

    with closing(connect(cli.home, cli.config)) as bridge:
        fresh = bridge.overview.retry_dead(message_id)
        nudge(cli.home)
    if cli.json:
        print_json({"id": fresh, "retries": message_id})
    else:
        say(f"asked again as {fresh}; see: autopoll answer {fresh}")


@command("drop", fields='{"id","dropped"}', group=dead, example="autopoll dead drop 42")
@click.argument("message_id", metavar="ID", type=MESSAGE_ID)
def drop(cli: CommandLine, message_id: int) -> None:
    """Forget a dead letter; its message and its error answer stay."""
    from autopoll.bridge.connect import connect

    with closing(connect(cli.home, cli.config)) as bridge:
        bridge.overview.drop_dead(message_id)
    if cli.json:
        print_json({"id": message_id, "dropped": True})
    else:
        say(f"dropped {message_id}")
