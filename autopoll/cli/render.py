"""How things look: JSON lines, tables, times, and what is going on meanwhile."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from autopoll.cli.output import encodable, is_terminal, say, write, write_json
from autopoll.text import visible

if TYPE_CHECKING:
    from autopoll.bridge.records import Spent

QUIET_S = 1.0  # what is done sooner needs no progress report
_GAP = 2  # blanks between two columns
_LEAST = {"text": 20, "note": 12}  # cells below which another column is dropped
_NARROWEST = 4


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


class Column:
    """One column of a table.

    Where a terminal has no room for all columns, the one with the highest `drop` goes first; those
    with 0 stay. A `TEXT` is cut at the end of its line, a `NOTE` goes on below it, and all others
    stand whole.
    """

    def __init__(self, heading: str, drop: int = 0, kind: str = "") -> None:
        self.heading = heading
        self.drop = drop
        self.kind = kind


TEXT, NOTE = "text", "note"


def print_table(
    columns: Sequence[Column | str], rows: Iterable[Sequence[object]], empty: str
) -> None:
    """Print rows under headings, or the sentence `empty` when there are none.

    A pipe has no width: there all columns stand whole, so that grep finds whole lines.
    """
    lines = [[cell(value) for value in row] for row in rows]
    if not lines:
        say(empty)
        return
    seen = is_terminal(sys.stdout)
    known = [Column(each) if isinstance(each, str) else each for each in columns]
    for line in table_lines(known, lines, _terminal_width() if seen else None, bold=seen):
        write(f"{line}\n")


def print_row(columns: Sequence[Column], row: Sequence[object]) -> None:
    """Print one row of a table that goes on and on."""
    width = _terminal_width() if is_terminal(sys.stdout) else None
    bare = [Column("", column.drop, column.kind) for column in columns]
    _, *lines = table_lines(bare, [[cell(value) for value in row]], width, bold=False)
    for line in lines:
        write(f"{line}\n")


def say_under(mark: str, text: str) -> None:
    """Print a line; where a terminal is too narrow for it, the text goes on below its beginning."""
    width = _terminal_width() if is_terminal(sys.stdout) else None
    if width is None or cells_of(mark + text) <= width:
        say(mark + text)
        return
    room = max(_LEAST[NOTE], width - len(mark))
    for number, line in enumerate(_folded(cell(text), room)):
        say((" " * len(mark) if number else mark) + line)


def table_lines(
    columns: Sequence[Column], lines: Sequence[Sequence[str]], width: int | None, *, bold: bool
) -> Iterator[str]:
    """Yield a heading and the lines of a table for a terminal of `width` cells; None for a pipe."""
    natural = [
        max(cells_of(column.heading), *(cells_of(line[number]) for line in lines))
        for number, column in enumerate(columns)
    ]
    widths = dict(enumerate(natural)) if width is None else _fitted(columns, natural, width)
    heading = _joined([_filled(columns[number].heading, widths[number]) for number in widths])
    yield f"\x1b[1m{heading}\x1b[0m" if bold else heading
    for line in lines:
        cells = [_drawn(line[number], columns[number], widths[number]) for number in widths]
        for parts in zip_longest(*cells, fillvalue=""):
            yield _joined([_filled(*each) for each in zip(parts, widths.values(), strict=True)])


def _fitted(columns: Sequence[Column], natural: list[int], width: int) -> dict[int, int]:
    """Return the widths of the columns that stay, by their numbers.

    What cannot fit even so is left to the terminal, which breaks a line without cutting an id.
    """
    least = [
        min(wanted, _LEAST.get(column.kind, wanted))
        for column, wanted in zip(columns, natural, strict=True)
    ]
    kept = list(range(len(columns)))
    while sum(least[number] + _GAP for number in kept) - _GAP > width:
        first = max(kept, key=lambda number: columns[number].drop)
        if not columns[first].drop:
            break
        kept.remove(first)
    widths = {number: least[number] for number in kept}
    flexible = sorted((n for n in kept if columns[n].kind), key=lambda n: natural[n] - least[n])
    spare = width + _GAP - sum(each + _GAP for each in widths.values())
    for place, number in enumerate(flexible):
        share = spare // (len(flexible) - place)
        grown = min(natural[number], max(_NARROWEST, least[number] + share))
        spare -= grown - widths[number]
        widths[number] = grown
    return widths


def _drawn(text: str, column: Column, width: int) -> list[str]:
    """Return the lines of a cell."""
    if not column.kind or cells_of(text) <= width:
        return [text]
    if column.kind == TEXT:
        return [cut(text, width)]
    return list(_folded(text, width))


def cells_of(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, width: int) -> str:
    """Return as much of a line as fits into so many cells, with a mark where it was cut."""
    if cells_of(text) <= width:
        return text
    if width <= 0:
        return ""
    if text.isascii():
        begun = text[: width - 1]
    else:
        from rich.cells import set_cell_size

        begun = set_cell_size(text, width - 1)
    return begun.rstrip() + encodable("…", "~")


def cell(value: object) -> str:
    """Return a value as it stands in a table: on one line, and harmless."""
    if value is None:
        return "-"
    return encodable(visible(str(value)).replace("\n", " ").replace("\t", " "))


def _folded(text: str, width: int) -> Iterator[str]:
    """Yield the lines of a text, broken between its words where that is possible."""
    from rich.cells import chop_cells

    line = ""
    for word in text.split(" "):
        if line and cells_of(f"{line} {word}") > width:
            yield line
            line = ""
        *whole, rest = chop_cells(f"{line} {word}" if line else word, width) or [""]
        yield from whole
        line = rest
    yield line


def _filled(text: str, width: int) -> str:
    return text + " " * (width - cells_of(text))


def _joined(cells: Sequence[str]) -> str:
    return (" " * _GAP).join(cells).rstrip()


def _terminal_width() -> int:
    import shutil  # it loads compression, and most commands are done before this

    return shutil.get_terminal_size().columns


def shortened(text: str, width: int = 160) -> str:
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
    return f"{seconds:.0f}s" if seconds >= 1 else f"{seconds * 1000:.0f}ms"


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
                    spent = f" ({time.monotonic() - self._begun:.0f} s)"
                    # What is wider than the terminal is written over in its last line only.
                    room = max(0, _terminal_width() - len(spent) - 1)
                    line = visible(self._text).replace("\n", " ")[:room]
                    write(f"\r\x1b[K{line}{spent}", err=True)
                elif self._text != self._shown:
                    say(self._text, err=True)
                self._shown = self._text
