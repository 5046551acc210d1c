"""What an administrator of a PostgreSQL server has to know of the bridge."""

import click

from autopoll.cli.base_command import CommandLine, command, group
from autopoll.cli.output import say
from autopoll.cli.render import print_json
from autopoll.errors import UsageError

_LONGEST = 63  # bytes: what PostgreSQL cuts off is another name


@group("bridge", example="autopoll bridge sql | psql --username owner database")
def bridge() -> None:
    """Prepare a PostgreSQL server for the bridge by hand."""


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
