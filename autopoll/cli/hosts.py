"""The homes that share the bridge, each on its host."""

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.render import TEXT, Column, age, print_json, print_table

if TYPE_CHECKING:
    from autopoll.bridge.records import AnsweringHome


@command(
    "hosts",
    fields='{"host","home","folder","version","shards":[…],"beat_age_ms","alive","in_flight"}'
    " a line\n"
    "home: the identity that the home keeps in var/home.id; ages by the clock of the bridge",
    example="autopoll hosts\nautopoll hosts --json | jq 'select(.alive | not)'",
)
def hosts(cli: CommandLine) -> None:
    """Show the homes that answer for the bridge, or have done so.

    A home is alive until the lease of its poller ends without a sign of life. What it holds in
    flight is then taken over by others that serve the same shards. It is shown for a week.
    """
    from autopoll.bridge.connect import connect

    with closing(connect(cli.home, cli.config, read_only=True)) as bridge:
        found = bridge.overview.homes()
    if cli.json:
        for each in found:
            print_json(each)
    else:
        print_hosts(found)


def print_hosts(homes: "Sequence[AnsweringHome]") -> None:
    """Print a line for each home."""
    print_table(
        (
            Column("host"),
            Column("home", 4),
            Column("folder", 5),
            Column("version", 6),
            Column("last beat", 2),
            Column("alive"),
            Column("shards", 3, TEXT),
            Column("in flight", 1),
        ),
        (
            (
                each.host,
                each.home[:8],
                each.folder,
                each.version,
                age(each.beat_age_ms / 1000),
                "yes" if each.alive else "no",
                ", ".join(each.shards),
                each.in_flight,
            )
            for each in homes
        ),
        "no home has answered yet",
    )
