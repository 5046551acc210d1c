"""What waits and what is under way, and taking questions back."""

from contextlib import closing
from typing import TYPE_CHECKING

import click

from autopoll.cli import completions
from autopoll.cli.base_command import ROW_ID, CommandLine, command
from autopoll.cli.error_text import report
from autopoll.cli.output import say
from autopoll.cli.render import NOTE, Column, age, print_json, print_table
from autopoll.clock import wall_ms
from autopoll.errors import Exit, NotFound

if TYPE_CHECKING:
    from autopoll.bridge.protocols import Bridge
    from autopoll.bridge.queue_records import Cancelled
    from autopoll.ops.queue_view import QueueEntry, QueueView

COLUMNS = (
    Column("id"),
    Column("shard", 3),
    Column("state"),
    Column("age"),
    Column("asker", 4),
    Column("attempt", 5),
    Column("worker", 1),
    Column("since", 2),
    Column("note", 6, NOTE),
)


@command(
    "queue",
    fields='{"id","shard","state","age_s","asked_at","conversation","asker","role","attempt",\n'
    ' "worker","since","host","home","last_error","cancelled","paused"} a line\n'
    "state: sent, queued behind others of its conversation, ready, leased; times in ms since 1970",
    example="autopoll queue --shard main\nautopoll queue --after 4711 --json",
)
@click.option(
    "--shard", metavar="NAME", shell_complete=completions.shards, help="Of this shard alone."
)
@click.option(
    "--after", metavar="ID", type=click.IntRange(0, 2**63 - 1), default=0, help="Beyond this id."
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many."
)
def queue(cli: CommandLine, shard: str | None, after: int, limit: int) -> None:
    """Show every question without an answer, oldest first: whose, how old, and which worker is at
    it, since when.
    """
    from autopoll.bridge.connect import connect
    from autopoll.ops.queue_view import queue as look

    with closing(connect(cli.home, cli.config, read_only=True)) as bridge:
        found = look(cli.home, bridge, shard=shard, after=after, limit=limit)
    if shard is not None and not any(found.counts.values()) and shard not in cli.config.shards:
        raise NotFound(
            f"there is no shard {shard!r}, and nothing waits for it",
            f"There are: {', '.join(cli.config.shards)}.",
        )
    if cli.json:
        for each in found.questions:
            print_json(each)
        return
    print_table(COLUMNS, map(_row, found.questions), "nothing waits")
    _say_sum(found)


@command(
    "cancel",
    fields='{"id","cancelled","outcome","was","state"} a line\n'
    "outcome: cancelled; in turn (answered after those before it); settled, marked before,\n"
    "unserved, unknown (nothing was changed)",
    example="autopoll cancel 42\nautopoll cancel 42 43 44",
)
@click.argument(
    "ids",
    metavar="ID...",
    nargs=-1,
    required=True,
    type=ROW_ID,
    shell_complete=completions.waiting,
)
def cancel(cli: CommandLine, ids: tuple[int, ...]) -> int:
    """Take questions back: each gets an error answer that says by whom and when.

    One that waits is answered at once, or, where others of its conversation are before it, right
    after these. One under way is taken from its worker, whose answer counts no more. Works with the
    home down, too. Exits 1 when one is answered already, 2 when there is none of that id.
    """
    from autopoll.bridge.connect import connect
    from autopoll.client.cancelling import cancel as take_back
    from autopoll.home.operation_log import operator_name

    cli.lost = "What was cancelled is; see: autopoll queue"
    numbers = list(dict.fromkeys(ids))
    with closing(connect(cli.home, cli.config)) as bridge:
        for done in take_back(cli.home, bridge, numbers, operator_name()):
            cli.code = max(cli.code, _print_cancelled(cli, bridge, done))
    return cli.code


def _print_cancelled(cli: CommandLine, bridge: "Bridge", done: "Cancelled") -> Exit:
    from autopoll.client.cancelling import refusal

    refused = refusal(bridge, done)
    if cli.json:
        print_json(
            {
                "id": done.message_id,
                "cancelled": refused is None,
                "outcome": done.outcome,
                "was": done.was,
                "state": done.query.state if done.query else None,
            }
        )
    if refused is None:
        if not cli.json:
            later = "; its answer comes after those before it" if done.outcome == "in turn" else ""
            say(f"question {done.message_id} is cancelled{later}")
        return Exit.OK
    report(*refused, as_json=cli.json)
    return Exit.DOWN if done.outcome in ("unknown", "unserved") else Exit.FAILED


def _row(each: "QueueEntry") -> tuple[object, ...]:
    now = wall_ms()
    note = each.cancelled or (f"paused {each.paused}" if each.paused else each.last_error)
    return (
        each.id,
        each.shard,
        each.state,
        age(each.age_s),
        f"{each.role or each.asker} of {each.conversation}",
        each.attempt or None,
        each.worker or each.host,
        age(max(0, now - each.since) / 1000) if each.since else None,
        note,
    )


def _say_sum(found: "QueueView") -> None:
    """Say how many there are in each state, as far as they were counted."""
    parts = [
        f"{f'{count - 1:,}+' if count > 1000 else count} {state}"
        for state, count in found.counts.items()
        if count
    ]
    if found.questions:
        oldest = max(found.questions, key=lambda each: each.age_s)
        say(f"\n{', '.join(parts)}; the oldest shown has waited for {age(oldest.age_s)}")
    if found.next:
        say(f"more: autopoll queue --after {found.next}")
