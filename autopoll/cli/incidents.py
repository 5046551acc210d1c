"""Every kill and restart with its reason."""

from typing import TYPE_CHECKING

import click

from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.moment import MomentType
from autopoll.cli.render import TEXT, Column, age, print_json, print_table, shortened
from autopoll.clock import parse_utc_ms, zoned

if TYPE_CHECKING:
    from datetime import datetime

    from autopoll.process.incident_log import Incident

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
    example="autopoll incidents --since 1h\nautopoll incidents --last 5",
)
@click.option("--since", type=MomentType(), help="Only from then on: 1h, or a time in UTC.")
@click.option(
    "--last",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="The newest so many.",
)
def incidents(cli: CommandLine, since: "datetime | None", last: int) -> None:
    """Show every kill and restart: when, what, why, on what evidence, and time to recovery."""
    from autopoll.process.incident_log import read

    found = [each for each in read(cli.home.incidents) if since is None or _is_from(each, since)]
    found = found[-last:]
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


def _is_from(incident: "Incident", since: "datetime") -> bool:
    """Tell whether an incident began at a moment or later, or when nobody knows."""
    at = parse_utc_ms(incident.at)
    return at is None or at >= since.timestamp() * 1000
