"""Preparing a PostgreSQL server for the bridge, and moving a bridge there."""

from pathlib import Path

import click

from autopoll.cli.base_command import CommandLine, command, group
from autopoll.cli.output import say
from autopoll.cli.render import ProgressLine, print_json, print_table
from autopoll.errors import UsageError

_LONGEST = 63  # bytes: what PostgreSQL cuts off is another name


@group("bridge", example="autopoll bridge sql | psql --username owner database")
def bridge() -> None:
    """Prepare a PostgreSQL server for the bridge, or move a bridge there."""


@command(
    "sql",
    fields='{"schema","grants"}',
    group=bridge,
    example="autopoll bridge sql --role agents | psql --username owner database",
)
@click.option(
    "--role",
    metavar="NAME",
    default="autopoll",
    show_default=True,
    help="The role that the homes log in as.",
)
def bridge_sql(cli: CommandLine, role: str) -> None:
    """Print the SQL that makes the bridge's schema, and what a role needs that only uses it.

    The role that runs it owns the schema, and it alone can bring it to a newer version: it needs
    CREATE on the database. The homes log in as the other role, which reads and writes rows and
    changes no table. Where the homes log in as the owner, none of it is needed: autopoll init
    --bridge URL does it.
    """
    from autopoll.bridge.connect import server_sql

    if not role or not role.isprintable() or len(role.encode()) > _LONGEST:
        raise UsageError(
            f"{role[:_LONGEST]!r} is no name of a role", f"Give at most {_LONGEST} bytes of text."
        )
    schema, grants = server_sql(role)
    if cli.json:
        print_json({"schema": schema, "grants": grants})
        return
    say("-- Run this as the role that shall own the bridge.")
    say(schema.rstrip())
    say("-- What the homes need, who log in as another role; again after each new version.")
    say(grants.rstrip())


@command(
    "copy",
    fields='{"source","target","tables":{table: rows},"left_out":{table: rows},"not_copied":[…],'
    '"replaced"}',
    group=bridge,
    example="autopoll bridge copy sqlite:///var/bridge.db postgresql://agents@db.example.org/agents",
)
@click.argument("source", metavar="sqlite:///…")
@click.argument("target", metavar="postgresql://…")
def bridge_copy(cli: CommandLine, source: str, target: str) -> None:
    """Copy a bridge from a file of SQLite into an empty PostgreSQL database, with all numbers.

    Take the home down first, and stop all other programs that write into the file. Everything is
    copied by one commit, or nothing, and the file is left as it is. What was in flight waits to be
    answered. A relative path is meant from the home. A password belongs into ~/.pgpass, a service
    file or PGPASSWORD; for - the url is read from stdin. The role must own the schema, or make it.
    """
    from autopoll.cli.bridge_input import read_bridge_url
    from autopoll.ops.bridge_copy import copy_bridge

    old, new = read_bridge_url(source), read_bridge_url(target)
    root = cli.home.root if old.is_relative else Path("/")
    with ProgressLine(cli.json) as progress:
        progress.say("copying")
        report = copy_bridge(old, new, root)
    cli.lost = "The bridge is copied."
    if cli.json:
        print_json(report)
        return
    print_table(("table", "rows"), report.tables.items(), "no rows")
    for table, rows in report.left_out.items():
        say(
            f"left out: {rows} rows of {table}, whose key is no text, or reads like that of another"
        )
    if report.replaced:
        say(f"{report.replaced} texts held NUL or bytes that are not UTF-8; U+FFFD stands for them")
    if report.not_copied:
        say(f"not copied, as autopoll does not know it: {', '.join(report.not_copied)}")
    say(f'next: in autopoll.toml, [bridge] url = "{report.target}"; then: autopoll up')
