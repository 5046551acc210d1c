"""The self-test of an installation."""

import signal
from typing import TYPE_CHECKING

from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.output import say
from autopoll.cli.render import NOTE, Column, ProgressLine, print_json, print_table
from autopoll.errors import Exit

if TYPE_CHECKING:
    from autopoll.ops.selftest.fault_run import FaultOutcome

COLUMNS = (
    Column("fault", kind=NOTE),
    Column("noticed after", 2),
    Column("answered after", 1),
    Column("lost"),
    Column("twice"),
)


@command(
    "faults",
    fields='{"fault","noticed_ms","answered_ms","lost","twice"} a line; null for never',
    example="autopoll faults\nautopoll faults --json > faults.jsonl",
)
def faults(cli: CommandLine) -> int:
    """Break a home in every known way, and show that no question is lost or answered twice.

    The home is a temporary one, whatever --home says; it is removed at the end, also after Ctrl-C.
    Processes are stopped and killed, a backend deadlocks, leaks, and leaves zombies and orphans,
    and 500 questions come at once. Takes about a minute. Exits 0 only if every fault was noticed
    and each question got its one answer.
    """
    from autopoll.ops.selftest.fault_cases import run_all

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)

    def show(outcome: "FaultOutcome") -> None:
        if cli.json:
            print_json(outcome)

    with ProgressLine(cli.json) as progress:
        outcomes = run_all(progress.say, show)
    if not cli.json:
        print_table(COLUMNS, (row(outcome) for outcome in outcomes), "no faults")
    if all(outcome.is_good for outcome in outcomes):
        return Exit.OK
    say("autopoll: not as promised; the table shows which fault", err=True)
    return Exit.FAILED


def row(outcome: "FaultOutcome") -> tuple[object, ...]:
    """Return the cells of one fault."""
    spans = (
        "never" if each is None else f"{each:,} ms"
        for each in (outcome.noticed_ms, outcome.answered_ms)
    )
    return (outcome.fault, *spans, outcome.lost, outcome.twice)
