"""Every kill and restart with its reason."""

import click

from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.render import TEXT, Column, age, print_json, print_table, shortened
from autopoll.clock import zoned

FIELDS = ("at", "process", "verdict", "action", "evidence", "recovered_ms", "closed", "host")
COLUMNS = (
    Column("at"),
    Column("process"),
    Column("verdict"),
    Column("action", 2),
    Column("recovered", 3),
    Column("evidence", 1, TEXT),
)


@command(
    "incidents",
    fields='{"at","process","verdict","action","evidence","recovered_ms","closed","host"} a line\n'
    "closed: how it ended other than by a recovery, in words, or null",
    example="autopoll incidents --last 5",
)
@click.option(
    "--last",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="The newest so many.",
)
def incidents(cli: CommandLine, last: int) -> None:
    """Show every kill and restart: when, what, why, on what evidence, and time to recovery."""
    from autopoll.process.incident_log import read

    found = read(cli.home.incidents)[-last:]
    if cli.json:
        for each in found:
            print_json({field: getattr(each, field) for field in FIELDS})
        return
    print_table(
        COLUMNS,
        (
            (
                zoned(each.at),
                each.process,
                each.verdict,
                each.action,
                each.ending if each.recovered_ms is None else age(each.recovered_ms / 1000),
                shortened(each.evidence),
            )
            for each in found
        ),
        "no incidents",
    )
