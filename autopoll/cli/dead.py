"""Dead letters: questions whose attempts are used up."""

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import click

from autopoll.cli import completions
from autopoll.cli.base_command import ROW_ID, CommandLine, command, group
from autopoll.cli.confirm import require_yes
from autopoll.cli.error_text import report
from autopoll.cli.moment import MomentType
from autopoll.cli.output import say
from autopoll.cli.render import TEXT, Column, print_json, print_table, shortened
from autopoll.clock import utc_iso_of, zoned
from autopoll.errors import Exit, NotFound, UsageError
from autopoll.message import read_content

if TYPE_CHECKING:
    from datetime import datetime

    from autopoll.bridge.protocols import Overview

FIELDS = '{"message_id","conversation","shard","attempts","last_error","settled_at","text"}'
SHOWN = 64 << 10  # bytes of a question of which its first words are listed


@group("dead", example="autopoll dead list")
def dead() -> None:
    """Show, retry and drop dead letters."""


@command(
    "list",
    fields=f"{FIELDS} a line",
    group=dead,
    example="autopoll dead list --since 1h\nautopoll dead list --json",
)
@click.option(
    "--shard", metavar="NAME", shell_complete=completions.shards, help="Only of this shard."
)
@click.option("--since", type=MomentType(), help="Only what has died from then on, as 1h.")
def list_(cli: CommandLine, shard: str | None, since: "datetime | None") -> None:
    """Show every dead letter, oldest first."""
    from autopoll.bridge.connect import connect

    with closing(connect(cli.home, cli.config, read_only=True)) as bridge:
        every = bridge.overview.dead_letters(text_bytes=None if cli.json else SHOWN)
    first = since.timestamp() * 1000 if since else 0
    found = [each for each in every if shard in (None, each.shard) and each.settled_at >= first]
    if cli.json:
        for each in found:
            print_json(each)
        return
    print_table(
        (
            Column("id"),
            Column("shard", 1),
            Column("attempts", 3),
            Column("last error", 2, TEXT),
            Column("question", kind=TEXT),
        ),
        (
            (
                each.message_id,
                each.shard,
                each.attempts,
                shortened(each.last_error),
                shortened(read_content(each.text).text),
            )
            for each in found
        ),
        "no dead letters",
    )


@command(
    "show",
    fields=FIELDS,
    group=dead,
    example="autopoll dead show 42",
)
@click.argument("message_id", metavar="ID", type=ROW_ID, shell_complete=completions.dead_letters)
def show(cli: CommandLine, message_id: int) -> None:
    """Show one dead letter whole."""
    from autopoll.bridge.connect import connect

    with closing(connect(cli.home, cli.config, read_only=True)) as bridge:
        found = bridge.overview.dead_letters(message_id=message_id)
    if not found:
        raise NotFound(f"there is no dead letter {message_id}", "See: autopoll dead list")
    [letter] = found
    if cli.json:
        print_json(letter)
        return
    for name, value in (
        ("id", letter.message_id),
        ("conversation", letter.conversation),
        ("shard", letter.shard),
        ("attempts", letter.attempts),
        ("settled", zoned(utc_iso_of(letter.settled_at))),
        ("last error", letter.last_error),
    ):
        say(f"{name:<13} {value}")
    say(f"\n{read_content(letter.text).text}")


def choosing(
    function: Callable[..., int | None],
) -> Callable[..., int | None]:
    """Give a command the arguments that choose dead letters."""
    for option in (
        click.option("--yes", "-y", is_flag=True, help="Do not ask before more than one."),
        click.option(
            "--shard", metavar="NAME", shell_complete=completions.shards, help="All of this shard."
        ),
        click.option("--all", "everything", is_flag=True, help="All there are."),
        click.argument(
            "ids", metavar="[ID]...", nargs=-1, type=ROW_ID, shell_complete=completions.dead_letters
        ),
    ):
        function = option(function)
    return function


@command(
    "retry",
    fields='{"id","retries"} a line',
    group=dead,
    example="autopoll dead retry 42\nautopoll dead retry --shard main --yes",
)
@choosing
def retry(
    cli: CommandLine, ids: tuple[int, ...], everything: bool, shard: str | None, yes: bool
) -> int:
    """Ask dead letters again, as new questions; their error answers stand."""
    from autopoll.process.nudge import nudge

    def again(overview: "Overview", number: int) -> None:
        fresh = overview.retry_dead(number)
        nudge(cli.home)
        if cli.json:
            print_json({"id": fresh, "retries": number})
        else:
            say(f"{number} asked again as {fresh}; see: autopoll answer {fresh}")

    return _each_chosen(cli, _Choice(ids, everything, shard, yes), "retry", again)


@command(
    "drop",
    fields='{"id","dropped"} a line',
    group=dead,
    example="autopoll dead drop 42 43\nautopoll dead drop --all --yes",
)
@choosing
def drop(
    cli: CommandLine, ids: tuple[int, ...], everything: bool, shard: str | None, yes: bool
) -> int:
    """Forget dead letters; their messages and error answers stay."""

    def forget(overview: "Overview", number: int) -> None:
        overview.drop_dead(number)
        if cli.json:
            print_json({"id": number, "dropped": True})
        else:
            say(f"dropped {number}")

    return _each_chosen(cli, _Choice(ids, everything, shard, yes), "drop", forget)


class _Choice(NamedTuple):
    """The dead letters that a command line names; `yes` says that it need not ask."""

    ids: tuple[int, ...]
    everything: bool
    shard: str | None
    yes: bool

    @property
    def is_open(self) -> bool:
        """Whether it names no numbers, so that others may be faster with some of them."""
        return self.everything or self.shard is not None

    def numbers(self, overview: "Overview") -> list[int]:
        """Return their numbers; raise UsageError unless they are named in one way."""
        if bool(self.ids) + self.everything + (self.shard is not None) != 1:
            raise UsageError(
                "give either the numbers of dead letters, or --shard NAME, or --all",
                "List them with: autopoll dead list",
            )
        if self.ids:
            return list(dict.fromkeys(self.ids))
        found = overview.dead_letters(text_bytes=1)
        return [each.message_id for each in found if self.shard in (None, each.shard)]


def _each_chosen(
    cli: CommandLine,
    choice: _Choice,
    verb: str,
    act: "Callable[[Overview, int], None]",
) -> int:
    """Do something to each dead letter that is chosen, after asking where they are several."""
    from autopoll.bridge.connect import connect

    cli.lost = "What was done is done; see: autopoll dead list"
    code = Exit.OK
    with closing(connect(cli.home, cli.config)) as bridge:
        numbers = choice.numbers(bridge.overview)
        if len(numbers) > 1 and not choice.yes:
            require_yes(f"{verb} {len(numbers):,} dead letters")
        for number in numbers:
            try:
                act(bridge.overview, number)
            except NotFound as error:
                if choice.is_open:  # somebody was faster
                    continue
                if len(numbers) == 1:
                    raise
                code = cli.code = error.exit_code
                report(error.what, error.mend, as_json=cli.json)
    if not numbers and not cli.json:
        say("no dead letters")
    return code
