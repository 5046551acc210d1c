"""How things look: JSON lines, tables, times, and what is going on meanwhile."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from autopoll.cli.output import is_terminal, say, write, write_json
from autopoll.text import visible

if TYPE_CHECKING:
    from autopoll.bridge.records import Spent

QUIET_S = 1.0  # what is done sooner needs no progress report


def print_json(value: Any, *, err: bool = False) -> None:
    """Print one JSON object on a line of its own; records are taken as they are."""
    import msgspec

    try:
        data = msgspec.json.encode(value)
    except UnicodeEncodeError:  # half a surrogate pair, as a file name or a foreign log may hold
        import json

        data = json.dumps(msgspec.to_builtins(value)).encode()
    write_json(data, err=err)


def clear() -> None:
    """Clear the screen where stdout is a terminal."""
    if is_terminal(sys.stdout):
        write("\x1b[2J\x1b[1;1H")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows under headings, or the sentence `empty` when there are none."""
    lines = [[_cell(value) for value in row] for row in rows]
    if not lines:
        say(empty)
        return
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    # A pipe has no width: nothing is cut or wrapped, so that grep finds whole lines.
    seen = is_terminal(sys.stdout)
    drawn = io.StringIO()
    Console(
        file=drawn, force_terminal=seen, width=None if seen else 100_000, highlight=False
    ).print(table)
    write("".join(f"{line.rstrip()}\n" for line in drawn.getvalue().split("\n")[:-1]))


def _cell(value: object) -> str:
    return "-" if value is None else visible(str(value)).replace("\n", " ").replace("\t", " ")


def shortened(text: str, width: int = 72) -> str:
    """Return the first words of a text on one line."""
    line = " ".join(text[: 4 * width].split())
    return line if len(line) <= width else line[: width - 1] + "…"


def age(seconds: float | None) -> str:
    """Return a span in the largest unit that fits, as people say it."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s" if seconds >= 2 else f"{seconds * 1000:.0f}ms"


def cost(spent: "Spent") -> str | None:
    """Return what something has cost, as people say it; None for nothing."""
    if not spent.tokens and not spent.cost_usd:
        return None
    dollars = f", ${spent.cost_usd:,.2f}" if spent.cost_usd is not None else ""
    return f"{spent.tokens:,} tokens{dollars}"


class ProgressLine:
    """Says on stderr what is going on, once it has taken a second.

    A terminal gets one line that is written over, everything else a line for each new text.
    `silent` is for --json, whose readers want stderr to hold errors only.
    """

    def __init__(self, silent: bool = False) -> None:
        self._silent = silent
        self._terminal = is_terminal(sys.stderr)
        self._begun = time.monotonic()
        self._text = ""
        self._shown = ""
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._terminal and self._shown:
            write("\r\x1b[K", err=True)

    def say(self, text: str) -> None:
        """Tell what is being done now; nothing while the text is empty."""
        self._text = text
        if not self._silent and self._thread.ident is None:
            self._thread.start()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Keep the line away while the block prints."""
        with self._lock:
            if self._terminal and self._shown:
                write("\r\x1b[K", err=True)
                self._shown = ""
            yield

    def _tick(self) -> None:
        while not self._ended.wait(QUIET_S):
            with self._lock:
                if not self._text:
                    continue
                if self._terminal:
                    import shutil  # it loads compression, and most commands are done before this

                    spent = f" ({time.monotonic() - self._begun:.0f} s)"
                    # What is wider than the terminal is written over in its last line only.
                    room = max(0, shutil.get_terminal_size().columns - len(spent) - 1)
                    line = visible(self._text).replace("\n", " ")[:room]
                    write(f"\r\x1b[K{line}{spent}", err=True)
                elif self._text != self._shown:
                    say(self._text, err=True)
                self._shown = self._text
