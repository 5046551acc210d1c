"""Forgetting what is old."""

from typing import TYPE_CHECKING, Any

import click

from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.confirm import require_yes
from autopoll.cli.interrupt import interruptible
from autopoll.cli.output import say
from autopoll.cli.render import ProgressLine, print_json, print_table
from autopoll.errors import UsageError

if TYPE_CHECKING:
    from autopoll.ops.pruning_by_hand import PruneReport


SHORT_S = 86400.0  # an age below which somebody may still want what would go


class AgeType(click.ParamType):  # type: ignore[type-arg]
    """An age with its unit: 90 alone may be meant as days or as seconds."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds; nought of any unit is an age, too."""
        from autopoll.clock import Duration

        text = str(value).strip()
        if text in ("0s", "0m", "0h", "0d"):
            return 0.0
        try:
            return Duration.parse(text)
        except UsageError as error:
            self.fail(f"{error.what}. Write it as 12h or 90d", param, ctx)


@command(
    "prune",
    fields='{"dry_run","removed":{"questions","canaries","foreign_messages","audit_lines","keys",'
    '"text_bytes"},"files":{"incidents","log_files","file_bytes"},"database_bytes","free_bytes",'
    '"freed_bytes","is_up","problem"}',
    example="autopoll prune --older-than 90d --dry-run",
)
@click.option(
    "--older-than",
    metavar="AGE",
    type=AgeType(),
    help="The age from which on everything goes; else what [retention] says of each kind.",
)
@click.option(
    "--foreign",
    is_flag=True,
    help="Also what other programs wrote and autopoll had no part in: messages that were read, and"
    " lines of the audit log.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask, where less than a day would be kept.")
def prune(
    cli: CommandLine, older_than: float | None, foreign: bool, dry_run: bool, yes: bool
) -> None:
    """Remove answered questions, audit lines, incidents and logs that are old.

    A running home does so by itself, by [retention] in autopoll.toml. This is for an age of your
    own, and for giving back the disk: a database that has become much too large is rewritten. While
    the home is up that is done only where no more than 16 MB of it are kept.

    What is unanswered stays whatever its age, and so do dead letters that nobody has dropped,
    messages that nobody has read, questions that may still be repeated under their key, and
    conversations with their tokens. An answer to `ask` goes with its question, whether or not
    anybody has fetched it; so an age below a day is asked about first.
    """
    from autopoll.ops import pruning_by_hand as use_case

    if foreign and older_than is None:
        raise UsageError(
            "--foreign needs an age", "Write: autopoll prune --older-than 90d --foreign"
        )
    kept = cli.config.retention
    if older_than is not None:
        kept = use_case.kept_for(older_than, foreign=foreign)
        if older_than < SHORT_S and not (dry_run or yes):
            require_yes("remove answers of this day that somebody may still fetch, and its audit")
    with interruptible(_words), ProgressLine(cli.json) as progress:
        report = use_case.prune(cli.home, cli.config, kept, progress.say, dry_run=dry_run)
    if cli.json:
        print_json(report)
        return
    _print(report)


def _words() -> tuple[str, str]:
    return (
        "some of what is old is removed, each thing whole",
        "Remove the rest with the same command.",
    )


def _print(report: "PruneReport") -> None:
    from autopoll.home.byte_size import in_words

    gone, files = report.removed, report.files
    rows = [
        ("answered questions", gone.questions),
        ("canaries", gone.canaries),
        ("messages of other programs", gone.foreign_messages),
        ("lines of the audit log", gone.audit_lines),
        ("keys", gone.keys),
        ("incidents", files.incidents),
        ("log files", files.log_files),
    ]
    verb = "would go" if report.dry_run else "removed"
    print_table((verb, "how many"), [(name, f"{count:,}") for name, count in rows], "")
    say(f"{in_words(gone.text_bytes)} of text, {in_words(files.file_bytes)} of files")
    if report.freed_bytes:
        say(f"the database shrank by {in_words(report.freed_bytes)}, to"
            f" {in_words(report.database_bytes)}")  # fmt: skip
    elif report.problem:
        say(f"the database was not rewritten: {report.problem}")
    elif report.free_bytes and report.is_up:
        say(
            f"{in_words(report.free_bytes)} of the database are free, and used again; to give them"
            " back to the disk: autopoll down, autopoll prune, autopoll up"
        )
