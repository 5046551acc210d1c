"""Shows what several shards answer to one question: side by side where there is room."""

import shutil
import sys
from typing import TYPE_CHECKING

from autopoll.cli.base_command import CommandLine
from autopoll.cli.output import is_terminal, say
from autopoll.cli.render import ProgressLine, print_json
from autopoll.client.result import words
from autopoll.errors import Exit
from autopoll.text import visible

if TYPE_CHECKING:
    from rich.table import Table

    from autopoll.bridge.records import QueryState
    from autopoll.client.fan_out import FanOut, ShardOutcome

NARROWEST = 36  # characters that a column needs to be read


def show(
    cli: CommandLine,
    fan_out: "FanOut",
    shards: list[str],
    timeout: float,
    progress: ProgressLine,
) -> Exit:
    """Print the outcome of every shard as it comes; return the worst exit code."""
    columns = shutil.get_terminal_size().columns
    if not cli.json and is_terminal(sys.stdout) and columns >= NARROWEST * len(shards):
        return _show_columns(fan_out, shards, timeout)
    code = Exit.OK
    for outcome in fan_out.outcomes(timeout, lambda state: progress.say(words(state, None))):
        code = cli.code = max(code, outcome.code)
        with progress.aside():
            if cli.json:
                _print_json(outcome)
            else:
                number = f", question {outcome.result.id}" if outcome.result else ""
                say(f"--- shard {outcome.shard}{number}\n{_text(outcome)}\n")
    return code


def _print_json(outcome: "ShardOutcome") -> None:
    if outcome.result:
        print_json(outcome.result)
    if outcome.result is None or outcome.result.status == "pending":
        said = {"error": f"shard {outcome.shard}: {outcome.reason}", "mend": outcome.mend}
        print_json(said, err=True)


def _show_columns(fan_out: "FanOut", shards: list[str], timeout: float) -> Exit:
    """Fill one column a shard as the outcomes come, and leave the whole table."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    cells = dict.fromkeys(shards, "…")
    code = Exit.OK
    # What is taller than the terminal cannot be written over, so the whole comes at the end.
    with Live(_table(cells), console=console, transient=True) as live:

        def news(state: "QueryState") -> None:
            assert state.shard is not None
            cells[state.shard] = f"({words(state, None)})"
            live.update(_table(cells))

        for outcome in fan_out.outcomes(timeout, news):
            code = max(code, outcome.code)
            cells[outcome.shard] = _text(outcome)
            live.update(_table(cells), refresh=True)
    console.print(_table(cells))
    return code


def _table(cells: dict[str, str]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(expand=True, header_style="bold")
    for shard in cells:
        table.add_column(Text(shard), ratio=1, overflow="fold")
    table.add_row(*(Text(visible(text)) for text in cells.values()))
    return table


def _text(outcome: "ShardOutcome") -> str:
    """Return what a person reads of an outcome."""
    if outcome.reason:
        return f"({outcome.reason})" + (f"\n{outcome.mend}" if outcome.mend else "")
    assert outcome.result is not None
    sources = ", ".join(outcome.result.sources)
    return (outcome.result.answer or "") + (f"\n\nSources: {sources}" if sources else "")
