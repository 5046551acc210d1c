"""The audit log: what sessions and operators did, and what was refused."""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from autopoll.cli import completions
from autopoll.cli.base_command import ROW_ID, CommandLine, command
from autopoll.cli.moment import MomentType, naive_utc
from autopoll.cli.render import TEXT, Column, shortened
from autopoll.clock import zoned

if TYPE_CHECKING:
    from autopoll.bridge.protocols import Bridge
    from autopoll.bridge.records import AuditEntry

COLUMNS = (
    Column("id"),
    Column("at", 2),
    Column("action"),
    Column("conversation", 3),
    Column("session", 4),
    Column("details", 1, TEXT),
)


@command(
    "audit",
    fields='{"id","at","conversation","session","action","details"} a line\n'
    "details: as they were stored, mostly an object",
    example="autopoll audit --since 2h\nautopoll audit --action access_denied --follow",
)
@click.option(
    "--conversation",
    metavar="ID",
    shell_complete=completions.conversations,
    help="Only of this conversation.",
)
@click.option("--action", metavar="NAME", help="Only this action: query_answered, …")
@click.option("--since", type=MomentType(), help="Only from then on: 2h, or a time in UTC.")
@click.option("--before", metavar="ID", type=ROW_ID, help="Only older lines than this.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    help="The newest so many.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on with new ones until Ctrl-C.")
def audit(
    cli: CommandLine,
    conversation: str | None,
    action: str | None,
    since: datetime | None,
    before: int | None,
    limit: int,
    follow: bool,
) -> None:
    """Show the audit log, oldest first; page back through it by --before with the lowest id."""
    from autopoll.cli.bridge_listing import BridgeListing, show
    from autopoll.errors import UsageError

    if follow and before is not None:
        raise UsageError("give either --before or --follow", "See: autopoll audit --help")

    def look(bridge: "Bridge", after: int, most: int) -> "list[AuditEntry]":
        return bridge.overview.audit_entries(
            conversation=conversation,
            action=action,
            since=naive_utc(since),
            after=after,
            before=before,
            limit=most,
        )

    listing = BridgeListing(
        columns=COLUMNS,
        cells=_cells,
        record=_record,
        none="nothing in the audit log",
        newest=lambda bridge: bridge.overview.newest_audit(),
        look=look,
    )
    show(cli, listing, conversation=conversation, limit=limit, follow=follow)


def _record(entry: "AuditEntry") -> dict[str, object]:
    return {
        "id": entry.id,
        "at": zoned(entry.timestamp, "milliseconds"),
        "conversation": entry.conversation,
        "session": entry.session,
        "action": entry.action,
        "details": _details(entry),
    }


def _cells(entry: "AuditEntry") -> tuple[object, ...]:
    details = _details(entry)
    words = (
        " ".join(f"{name}={value}" for name, value in details.items())
        if isinstance(details, dict)
        else str(details)
    )
    return (
        entry.id,
        zoned(entry.timestamp),
        shortened(entry.action, 40),
        entry.conversation,
        entry.session,
        shortened(words),
    )


def _details(entry: "AuditEntry") -> Any:
    try:
        return json.loads(entry.details)
    except (ValueError, RecursionError):  # of another program, or cut off
        return entry.details
