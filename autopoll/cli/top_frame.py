"""What `autopoll top` draws: one frame, for a terminal of any size, readable without colour."""

from collections.abc import Sequence

import msgspec

from autopoll.cli.render import TEXT, Column, age, cell, cut, table_lines
from autopoll.cli.terminal_screen import BOLD, REVERSE
from autopoll.clock import utc_iso_of, zoned
from autopoll.home.home import Home
from autopoll.ops.home_snapshot import HomeSnapshot, ShardFigures
from autopoll.ops.status import Process

PROCESS_COLUMNS = (
    Column("process"),
    Column("state"),
    Column("beat", 2),
    Column("up", 6),
    Column("restarts", 3),
    Column("memory", 4),
    Column("files", 5),
    Column("pid", 7),
    Column("note", 1, TEXT),
)
SHARD_COLUMNS = (
    Column("shard"),
    Column("ready"),
    Column("waits"),
    Column("flight", 2),
    Column("oldest", 7),
    Column("rate", 4),
    Column("p50", 3),
    Column("p99", 6),
    Column("tokens", 5),
    Column("paused", 1, TEXT),
)
INCIDENT_COLUMNS = (
    Column("incident"),
    Column("process", kind=TEXT),
    Column("verdict"),
    Column("action", 1),
    Column("ended", 2, TEXT),
)
_LEAST_ROWS = 3  # of a table before another one is left out

Line = tuple[str, str]  # text and style


class Selected(msgspec.Struct, frozen=True):
    """The row that keys act on: a process or a shard, by its name."""

    kind: str  # process | shard
    name: str


def rows(now: HomeSnapshot) -> list[Selected]:
    """Return all rows that can be selected, from the top."""
    processes = [Selected("process", each.name) for each in now.status.processes]
    return processes + [Selected("shard", each.status.name) for each in now.shards]


def frame(
    now: HomeSnapshot, selected: Selected | None, footer: str, width: int, height: int
) -> list[Line]:
    """Return the lines of a screen, at most `height` of them, none wider than `width`."""
    status = now.status
    head = [_title(now), *(f"! {problem}" for problem in status.problems[:2])]
    room = height - len(head) - 1  # … and the footer
    processes = [_process_cells(each) for each in status.processes]
    shards = [_shard_cells(each) for each in now.shards]
    incidents = [
        (zoned(each.at)[11:19], each.process, each.verdict, each.action, each.ending)
        for each in now.incidents
    ]
    sizes = _shared_room([len(processes), len(shards), len(incidents)], room)
    marked = [selected.name if selected and selected.kind == kind else None for kind in KINDS]
    lines: list[Line] = [(cut(cell(text), width), BOLD * (not n)) for n, text in enumerate(head)]
    tables: list[Sequence[Sequence[object]]] = [processes, shards, incidents]
    for columns, cells, mark, size in zip(TABLES, tables, marked, sizes, strict=True):
        lines += _table(columns, cells, mark, size, width)
    lines = lines[: max(0, height - 1)]
    lines += [("", "")] * (height - 1 - len(lines))
    return [*lines, (cut(cell(footer), width), REVERSE)][-height:]


TABLES = (PROCESS_COLUMNS, SHARD_COLUMNS, INCIDENT_COLUMNS)
KINDS = ("process", "shard", "incident")


def _title(now: HomeSnapshot) -> str:
    status = now.status
    words = [status.headline]
    if status.queue is not None:
        waits = status.queue["queued"] + status.queue["ready"]
        words.append(f"{waits} waiting, {status.queue['leased']} in flight")
        words.append(f"{status.queue['dead']} dead")
    if status.latency_ms.p50 is not None:
        words.append(f"p50 {status.latency_ms.p50} ms, p99 {status.latency_ms.p99} ms")
    return f"{zoned(utc_iso_of(now.at))[11:]}  {'; '.join(words)}"


def _process_cells(process: Process) -> tuple[object, ...]:
    memory = f"{process.rss_bytes / 1e6:.0f} MB" if process.rss_bytes else None
    return (
        process.name, process.state, age(process.loop_age_s), age(process.uptime_s),
        process.restarts, memory, process.fds, process.pid, process.note,
    )  # fmt: skip


def _shard_cells(figures: ShardFigures) -> tuple[object, ...]:
    shard = figures.status
    return (
        shard.name, f"{shard.ready}/{shard.instances}", figures.waiting, shard.in_flight,
        age(figures.oldest_s), f"{figures.per_minute}/m", _ms(figures.p50_ms), _ms(figures.p99_ms),
        _short(shard.usage_today.tokens), shard.paused or "",
    )  # fmt: skip


def _ms(value: int | None) -> str:
    return age(None if value is None else value / 1000)


def _short(count: int) -> str:
    """Return a number of tokens in few characters."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def _shared_room(counts: Sequence[int], room: int) -> list[int]:
    """Return how many lines each table gets: a blank, its heading and rows; 0 leaves it out."""
    sizes = [count + 2 if count else 0 for count in counts]
    for number in (2, 0, 1):  # incidents give way first
        least = min(sizes[number], _LEAST_ROWS + 2)
        sizes[number] = max(least, sizes[number] - max(0, sum(sizes) - room))
    for number in (2, 1, 0):
        if sum(sizes) > room:
            sizes[number] = 0
    if not any(sizes):
        sizes[0] = max(0, room)
    return sizes


def _table(
    columns: Sequence[Column],
    cells: Sequence[Sequence[object]],
    marked: str | None,
    size: int,
    width: int,
) -> list[Line]:
    """Return a table within so many lines, scrolled to the row that is marked."""
    if size < 3 or not cells:
        return []
    shown = size - 2
    names = [str(row[0]) for row in cells]
    place = names.index(marked) if marked in names else 0
    first = max(0, min(place - shown // 2, len(cells) - shown))
    texts = [[cell(value) for value in row] for row in cells[first : first + shown]]
    heading, *lines = table_lines(columns, texts, max(1, width - 2), bold=False)
    drawn: list[Line] = [("", ""), (cut(f"  {heading}", width), BOLD)]
    for name, line in zip(names[first:], lines, strict=False):
        is_marked = name == marked
        drawn.append((cut(f"{'>' if is_marked else ' '} {line}", width), REVERSE * is_marked))
    return drawn


def log_frame(home: Home, process: str, width: int, height: int) -> list[Line]:
    """Return a screen with the newest lines of the log of a process."""
    from autopoll.cli.logs import newest_lines

    shown = [cut(cell(line), width) for line in newest_lines(home, process, max(0, height - 1))]
    lines: list[Line] = [(text, "") for text in shown[-max(0, height - 1) :]]
    lines += [("", "")] * (height - 1 - len(lines))
    return [*lines, (cut(f"log of {process}; q goes back", width), REVERSE)]
