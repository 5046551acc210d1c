"""A copy of the bridge, and one put back."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.interrupt import interruptible
from autopoll.cli.output import say
from autopoll.cli.render import ProgressLine, print_json

if TYPE_CHECKING:
    from autopoll.bridge.backup_facts import BackupFacts

FILE = click.Path(path_type=Path)
HOLDS = '"holds":{"schema","bytes","messages","conversations"}'


@command(
    "backup",
    fields=f'{{"file",{HOLDS},"not_in_it":[…]}}',
    example="autopoll backup /backup/agents-$(date +%F).db",
)
@click.argument("file", metavar="FILE", type=FILE)
@click.option("--force", is_flag=True, help="Replace the file when it is there already.")
def backup(cli: CommandLine, file: Path, force: bool) -> None:
    """Copy the bridge to a file, while it is in use or not.

    The copy holds all conversations, messages, questions and answers as they were at one moment. It
    is one private SQLite database (0600), which comes into its place whole and checked, or not at
    all; nobody who asks or answers waits for it. Settings and tokens are not in it: keep
    autopoll.toml, shards.d and var/credentials beside it. For a bridge on PostgreSQL the command of
    pg_dump is shown.
    """
    from autopoll.ops.backup import back_up

    with interruptible(lambda: (f"{file} is as it was", "")), ProgressLine(cli.json) as progress:
        report = back_up(cli.home, cli.config, file.absolute(), progress.say, replace=force)
    cli.lost = f"The backup is complete: {file}"
    if cli.json:
        print_json(report)
        return
    say(f"{report.file}: {_words_of(report.holds)}")
    say(f"not in it, and to be kept beside it: {', '.join(report.not_in_it)}")


@command(
    "restore",
    fields=f'{{"file",{HOLDS},"bridge","kept"}}',
    example="autopoll down && autopoll restore /backup/agents-2026-12-01.db && autopoll up",
)
@click.argument("file", metavar="FILE", type=FILE)
def restore(cli: CommandLine, file: Path) -> None:
    """Put a backup into the place of the bridge of a home that is down.

    The file is checked first: it must be whole, autopoll's, and of no newer version. The bridge
    that was there is kept beside it, under a name with the time. Questions that were answered after
    the backup was made are open again, and are answered again. For a bridge on PostgreSQL the
    command of pg_restore is shown.
    """
    from autopoll.ops.backup import restore as use_case

    with interruptible(_words), ProgressLine(cli.json) as progress:
        report = use_case(cli.home, cli.config, file.absolute(), progress.say)
    cli.lost = "The backup is put back."
    if cli.json:
        print_json(report)
        return
    say(f"{report.bridge}: {_words_of(report.holds)}")
    if report.kept:
        say(f"what was there before: {report.kept}")
    say("next: autopoll up")


def _words_of(holds: "BackupFacts") -> str:
    from autopoll.home.byte_size import in_words

    return (
        f"messages: {holds.messages:,}, conversations: {holds.conversations:,},"
        f" {in_words(holds.bytes)}"
    )


def _words() -> tuple[str, str]:
    return "the bridge is either that before or the backup, whole", "See: autopoll messages"
