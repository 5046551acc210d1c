"""`status` and `health`: the state of the home, for people and for monitors."""

import time
from typing import TYPE_CHECKING

import click

from autopoll.cli.base_command import CommandLine, DurationType, command
from autopoll.cli.hosts import print_hosts
from autopoll.cli.interrupt import interruptible
from autopoll.cli.output import require_reader, say
from autopoll.cli.render import (
    NOTE,
    Column,
    ProgressLine,
    age,
    clear,
    cost,
    print_json,
    print_table,
    say_under,
)

if TYPE_CHECKING:
    from autopoll.ops.status import Status

REMARKS = 5  # context files of a shard that are named


@command(
    "status",
    fields='{"ready","supervisord","processes":[{"name","role","state","pid","uptime_s","restarts",\n'
    ' "rss_bytes","fds",…}],"shards":[{"name","backend","instances","ready","in_flight",\n'
    ' "paused","usage_today":{"input_tokens","output_tokens","cached_tokens","cost_usd",\n'
    ' "answers"},"context_remarks":{"total","failed","files":[{"file","reason",\n'
    ' "skipped","failed"}]}}],"queue":{"queued","ready","leased","done","dead"},\n'
    ' "latency_ms":{"p50","p99"},"problems":[…],"version","supervisord_version","last_change",\n'
    ' "disks":[{"folder","free","fills_by","full_in_days",…}],"hosts":[as `autopoll hosts`]}',
    example="autopoll status\nautopoll status --watch\nautopoll status --watch 10s --json",
)
@click.option(
    "--watch",
    type=DurationType(),
    is_flag=False,
    flag_value="1s",
    metavar="[TIME]",
    help="Show it again after so long, by default a second, until Ctrl-C.",
)
def status(cli: CommandLine, watch: float | None) -> int:
    """Show processes, shards, queue and latency. Exits 0 ready, 1 degraded, 2 down, 3 hung."""
    from autopoll.ops.status import status as look

    while True:
        now = look(cli.home, cli.config)
        cli.code = now.exit_code
        if cli.json:
            print_json(_fields(now))
        else:
            if watch:
                clear()
            _print_status(now)
        if not watch:
            return now.exit_code
        require_reader()
        time.sleep(watch)


@command(
    "health",
    fields='{"verdict":"ok|degraded|down","checks":[{"name","ok","detail"}]}',
    example="autopoll health --deep || alert",
)
@click.option("--deep", is_flag=True, help="Also read all of the database, and ask every shard.")
def health(cli: CommandLine, deep: bool) -> int:
    """Check what a question needs. Exits 0 ok, 1 degraded, 2 down, 3 supervisord hung."""
    from autopoll.ops.health import health as check

    with ProgressLine(cli.json) as progress:
        progress.say("checking")
        with interruptible(lambda: ("nothing was changed", "Run it again when you like.")):
            found = check(cli.home_as_it_is, deep=deep)
    cli.code = found.exit_code
    if cli.json:
        print_json(found)
    else:
        say(found.verdict)
        for each in found.checks:
            say_under(f"  {'ok  ' if each.ok else 'FAIL'}  ", f"{each.name}: {each.detail}")
    return found.exit_code


def _fields(now: "Status") -> dict[str, object]:
    """Return the status as other programs know it."""
    import msgspec

    fields: dict[str, object] = msgspec.to_builtins(now)
    return fields


def _print_status(now: "Status") -> None:
    say(now.headline)
    for problem in now.problems:
        say(f"  {problem}")
    if now.last_change:
        say(f"  {now.last_change}")
    say()
    _print_processes(now)
    say()
    print_shards(now)
    for shard in now.shards:
        for line in shard.context_remarks.lines(REMARKS):
            say(f"  {shard.name}: {line}")
    say()
    if len(now.hosts) > 1:
        print_hosts(now.hosts)
        say()
    if now.queue is not None:
        say("queue    " + ", ".join(f"{count} {state}" for state, count in now.queue.items()))
    if now.latency_ms.p50 is not None:
        say(f"latency  p50 {now.latency_ms.p50} ms, p99 {now.latency_ms.p99} ms")
    for disk in now.disks:
        say(f"disk     {disk.words}")
    _print_version(now)


def _print_version(now: "Status") -> None:
    """Say which version is installed, and what still runs another."""
    say(f"version  {now.version}")
    others = [each.name for each in now.processes if each.pid and each.version != now.version]
    if others:
        say(f"         {', '.join(others)}: another; take it up with: autopoll reload")
    if now.supervisord == "running" and now.supervisord_version not in (None, now.version):
        say(f"         supervisord: {now.supervisord_version}; take it up with: autopoll restart")


def _print_processes(now: "Status") -> None:
    print_table(
        (
            Column("process"),
            Column("role", 7),
            Column("state"),
            Column("pid", 2),
            Column("up", 4),
            Column("restarts", 3),
            Column("memory", 5),
            Column("files", 6),
            Column("version", 8),
            Column("note", 1, NOTE),
        ),
        (
            (
                each.name,
                each.role,
                each.state,
                each.pid,
                age(each.uptime_s),
                each.restarts,
                f"{each.rss_bytes / 1e6:.0f} MB" if each.rss_bytes else None,
                each.fds,
                each.version,
                each.note,
            )
            for each in now.processes
        ),
        "no processes",
    )


def print_shards(now: "Status") -> None:
    """Print a line for each shard."""
    print_table(
        (
            Column("shard"),
            Column("backend", 4),
            Column("ready"),
            Column("in flight", 2),
            Column("today", 3),
            Column("paused", 1, NOTE),
        ),
        (
            (
                each.name,
                each.backend,
                f"{each.ready} of {each.instances}",
                each.in_flight,
                cost(each.usage_today),
                each.paused,
            )
            for each in now.shards
        ),
        "no shards",
    )
