"""The logs of every process, as one."""

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autopoll.cli import completions
from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.log_tail import Record, Tail, at_of, log_files, merged, record_line, require_log
from autopoll.cli.moment import MomentType
from autopoll.cli.output import require_reader, say
from autopoll.cli.render import print_json
from autopoll.clock import utc_now

if TYPE_CHECKING:
    from autopoll.home.home import Home

FOLLOW_S = 0.2
LAST = 50


@command(
    "logs",
    fields='{"process","at","level","logger","text",…} a line',
    example="autopoll logs\nautopoll logs poller -f\nautopoll logs --since 10m",
)
@click.argument("name", required=False, shell_complete=completions.logged)
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option(
    "--last",
    "-n",
    type=click.IntRange(0, 100_000),
    help=f"The newest so many records; else {LAST}, or all since --since.",
)
@click.option("--since", type=MomentType(), help="Only from then on: 10m, or a time in UTC.")
def logs(
    cli: CommandLine, name: str | None, follow: bool, last: int | None, since: datetime | None
) -> None:
    """Show the log of process NAME (as in `autopoll status`, or supervisord), or all logs.

    Those of several processes are merged by time. With --follow, rotated files and those of
    processes that come later are followed too.
    """
    count = last if last is not None else LAST if since is None else 100_000
    moment = "" if since is None else since.isoformat(timespec="milliseconds")
    if name is not None:
        require_log(cli.home.log, name)
    tails: dict[Path, Tail] = {}
    found: list[Record] = []
    for path in log_files(cli.home.log, name):
        tails[path] = Tail(path)
        found += tails[path].last(count, moment)
    found = merged(found)
    for record in found[len(found) - min(count, len(found)) :]:
        _print_record(cli, record)
    if follow:
        for record in _following(cli.home.log, name, tails):
            _print_record(cli, record)


def newest_lines(home: "Home", name: str, count: int) -> list[str]:
    """Return the newest lines of the log of a process."""
    found: list[Record] = []
    for path in log_files(home.log, name):
        tail = Tail(path)
        found += tail.last(count)
        tail.close()
    lines = [line for record in merged(found) for line in record_line(record).splitlines()]
    return lines[len(lines) - min(count, len(lines)) :]


def _following(folder: Path, name: str | None, tails: dict[Path, Tail]) -> Iterator[Record]:
    """Yield what comes, by its time across all files.

    What is younger than a look at all files waits for the next one, by which what another process
    wrote before it has been read as well.
    """
    held: list[Record] = []
    while True:
        require_reader()
        time.sleep(FOLLOW_S)
        began = utc_now().isoformat(timespec="milliseconds")
        for path in log_files(folder, name):
            if path not in tails:
                tails[path] = Tail(path)
        fresh = [record for tail in tails.values() for record in tail.fresh()]
        yield from merged([*held, *(record for record in fresh if at_of(record) < began)])
        held = [record for record in fresh if at_of(record) >= began]


def _print_record(cli: CommandLine, record: Record) -> None:
    if cli.json:
        print_json(record)
    else:
        say(record_line(record))
