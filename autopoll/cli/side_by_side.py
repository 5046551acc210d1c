"""Shows what several shards answer to one question: side by side where there is room."""

import shutil
import sys
from typing import TYPE_CHECKING

from autopoll.cli.base_command import CommandLine
from autopoll.cli.output import is_terminal, say
from autopoll.cli.render import ProgressLine, print_json
from autopoll.client.progress import words
from autopoll.errors import Exit
from autopoll.text import visible

if TYPE_CHECKING:
    from rich.table import Table

    from autopoll.bridge.records import QueryState
    from autopoll.client.fan_out import Panel, Voice

NARROWEST = 36  # characters that a column needs to be read


def show(
    cli: CommandLine,
    panel: "Panel",
    shards: list[str],
    timeout: float,
    progress: ProgressLine,
) -> Exit:
    """Print the voice of every shard as it comes; return the worst exit code."""
    columns = shutil.get_terminal_size().columns
    if not cli.json and is_terminal(sys.stdout) and columns >= NARROWEST * len(shards):
        return _show_columns(panel, shards, timeout)
    code = Exit.OK
    for voice in panel.voices(timeout, lambda state: progress.say(words(state, None))):
        code = max(code, voice.code)
        with progress.aside():
            if cli.json:
                _print_json(voice)
            else:
                number = f", question {voice.result.id}" if voice.result else ""
                say(f"--- shard {voice.shard}{number}\n{_text(voice)}\n")
    return code


def _print_json(voice: "Voice") -> None:
    if voice.result:
        print_json(voice.result)
    if voice.result is None or voice.result.status == "pending":
        said = {"error": f"shard {voice.shard}: {voice.reason}", "mend": voice.mend}
        print_json(said, err=True)


def _show_columns(panel: "Panel", shards: list[str], timeout: float) -> Exit:
    """Fill one column a shard as the voices come, and leave the whole table."""
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

        for voice in panel.voices(timeout, news):
            code = max(code, voice.code)
            cells[voice.shard] = _text(voice)
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


def _text(voice: "Voice") -> str:
    """Return what a person reads of a voice."""
    if voice.reason:
        return f"({voice.reason})" + (f"\n{voice.mend}" if voice.mend else "")
    assert voice.result is not None
    sources = ", ".join(voice.result.sources)
    return (voice.result.answer or "") + (f"\n\nSources: {sources}" if sources else "")
