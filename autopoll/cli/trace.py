"""How one question came to its answer, or how far it has come."""

import shutil
import sys
from contextlib import closing
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

import click

from autopoll.cli import completions
from autopoll.cli.base_command import ROW_ID, CommandLine, command
from autopoll.cli.output import is_terminal, say
from autopoll.cli.render import NOTE, Column, age, print_json, print_table

if TYPE_CHECKING:
    from autopoll.ops.question_trace import QuestionTrace
    from autopoll.ops.trace_events import TraceEvent

_COLUMNS = (Column("at"), Column("after", 1), Column("state"), Column("detail", kind=NOTE))
_DATE = len("2026-03-01T")
_NARROW = 60  # cells, below which a table would crush the details


@command(
    "trace",
    fields='{"id","state","question","conversation","shard","attempts","total_ms",\n'
    ' "events":[{"at","state","detail",…}],"hops":[{"hop","ms","attempt"}],"waits":[…],\n'
    ' "notes":[…],"usage","answer_id","answer_to","retry_of","retried_as","clock"}\n'
    "an event also has attempt, worker, pid, host, home, usage, process, verdict where known",
    example="autopoll trace 42\nautopoll trace 42 --json",
)
@click.argument("message_id", metavar="ID", type=ROW_ID, shell_complete=completions.questions)
def trace(cli: CommandLine, message_id: int) -> None:
    """Show every state of question ID: when, which worker, what went wrong, how long it took."""
    from autopoll.bridge.connect import connect
    from autopoll.ops import question_trace

    with closing(connect(cli.home, cli.config, read_only=True)) as bridge:
        found = question_trace.trace(cli.home, cli.config, bridge, message_id)
    if cli.json:
        print_json(found)
        return
    say(_headline(found))
    say(found.question)
    _show_events(found)
    _show_hops(found)
    for line in found.waits:
        say(f"\n{line}")
    for line in found.notes:
        say(f"\nnote: {line}")


def _headline(found: "QuestionTrace") -> str:
    parts = [f"{found.id}: {found.state}"]
    if found.shard:
        parts.append(f"shard {found.shard}")
    if found.attempts:
        parts.append("1 attempt" if found.attempts == 1 else f"{found.attempts} attempts")
    if found.total_ms is not None:
        parts.append(_span(found.total_ms))
    return ", ".join(parts)


def _show_events(found: "QuestionTrace") -> None:
    """Print the timeline; the day stands above it while it stays the same."""
    days = {each.at[:_DATE] for each in found.events}
    short = len(days) == 1 and all(each.at.endswith("Z") for each in found.events)
    day = f"{found.events[0].at[: _DATE - 1]}, " if short else ""
    say(f"{day}UTC by the clock of {found.clock}\n")
    before: TraceEvent | None = None
    rows = []
    for each in found.events:
        at = each.at[_DATE:-1] if short else each.at
        rows.append((at, _after(before, each), each.state, each.detail))
        before = each
    if is_terminal(sys.stdout) and shutil.get_terminal_size().columns < _NARROW:
        for at, _, state, detail in rows:
            say(f"{at}  {state}\n  {detail}")
        return
    print_table(_COLUMNS, rows, "nothing is known of it")


def _show_hops(found: "QuestionTrace") -> None:
    """Print how long each step took, a line for each attempt."""
    if found.hops:
        say()
    for attempt, hops in groupby(found.hops, key=lambda each: each.attempt):
        took = ", ".join(f"{each.hop} {_span(each.ms)}" for each in hops)
        say(f"attempt {attempt}: {took}" if attempt else took)


def _after(before: "TraceEvent | None", event: "TraceEvent") -> str:
    """Return the time since the event before."""
    if before is None:
        return ""
    try:
        span = datetime.fromisoformat(event.at) - datetime.fromisoformat(before.at)
    except ValueError:
        return ""
    ms = round(span.total_seconds() * 1000)
    return f"+{_span(ms)}" if ms >= 0 else "clock set back"


def _span(ms: int) -> str:
    return f"{ms / 1000:.1f}s" if 1000 <= ms < 100_000 else age(ms / 1000)
