"""What all commands share: the options --home and --json, and the home they lead to."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import click

from autopoll.cli.output import say
from autopoll.errors import Exit

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from autopoll.home.config import Config
    from autopoll.home.home import Home

P = ParamSpec("P")


class CommandLine:
    """What the command line was started with, and what is to be said where it cannot end."""

    def __init__(self) -> None:
        self.home_name: str | None = None
        self.trusting = False
        self.json = False
        self.code: int = Exit.OK  # of what was found before it was printed
        self.lost = "What was done is done; give it an output that can be written."

    @functools.cached_property
    def home(self) -> "Home":
        """The home to work on; raises NotFound, and Untrusted when another user can change it
        or something in its var/ is not ours."""
        from autopoll.home.var_check import require_whole

        require_whole(self.home_as_it_is)
        return self.home_as_it_is

    @functools.cached_property
    def home_as_it_is(self) -> "Home":
        """The same, whatever is in its var/; root is the owner of the home from then on."""
        from autopoll.home.find_home import find

        return find(self.home_name, trusting=self.trusting)

    @functools.cached_property
    def config(self) -> "Config":
        """The home's settings; raises ConfigError."""
        from autopoll.home.config import load

        return load(self.home)


class Helped(click.Command):
    """A command whose help goes the way of all our output."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return click's own option, which prints through us."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option


class HelpedGroup(Helped, click.Group):
    """A group of such commands."""


def _show_help(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        say(ctx.get_help())
        ctx.exit()


def _keep_home(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value == "":
        raise click.BadParameter("is empty; name a folder", ctx, param)
    if value is not None:
        ctx.ensure_object(CommandLine).home_name = value


def _keep_trust(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(CommandLine).trusting = True


def _keep_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(CommandLine).json = True


def folders(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> "list[CompletionItem[str]]":
    """Have the shell complete a folder."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


_dir_option = click.option(
    "--home",
    metavar="DIR",
    expose_value=False,
    callback=_keep_home,
    type=click.Path(),
    shell_complete=folders,
    help="The home; else AUTOPOLL_HOME, or the nearest folder upward with autopoll.toml.",
)
_trust_option = click.option(
    "--trust",
    is_flag=True,
    expose_value=False,
    callback=_keep_trust,
    help="Trust this home from now on, though others have a hand in it.",
)


def home_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say on which home it works."""
    return _dir_option(_trust_option(function))


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_keep_json,
    help="Print JSON, one object or one object a line.",
)


def command(
    name: str, *, example: str, fields: str = "", group: click.Group | None = None
) -> Callable[[Callable[Concatenate[CommandLine, P], int | None]], click.Command]:
    """Make a function a command with --home, --json and an example in its help.

    `fields` is what --json prints; the function is given the CommandLine first and returns its exit
    code, None for good.
    """

    def wrap(function: Callable[Concatenate[CommandLine, P], int | None]) -> click.Command:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> int | None:
            cli = click.get_current_context().ensure_object(CommandLine)
            return function(cli, *args, **kwargs)

        made = click.command(name, cls=Helped, epilog=epilog(example, fields))(
            json_option(home_option(call))
        )
        if group is not None:
            group.add_command(made)
        return made

    return wrap


def group(
    name: str, *, example: str, alone: bool = False
) -> Callable[[Callable[[], None]], click.Group]:
    """Make a function a group of commands with an example in its help.

    With `alone` the group's name does something by itself, which is then the function's task.
    """

    def wrap(function: Callable[[], None]) -> click.Group:
        made = click.group(
            name, cls=HelpedGroup, epilog=epilog(example), invoke_without_command=alone
        )
        return made(json_option(home_option(function)))

    return wrap


def epilog(example: str, fields: str = "") -> str:
    """Return an example, and what --json prints, as click shows them unwrapped."""
    parts = [("Example", example)] + ([("With --json", fields)] if fields else [])
    return "\n\n".join(
        "\n".join(["\b", f"{title}:", *(f"  {line}" for line in text.splitlines())])
        for title, text in parts
    )


ROW_ID = click.IntRange(1, 2**63 - 1)


class DurationType(click.ParamType):  # type: ignore[type-arg]
    """A span of time on the command line, such as 30s or 5m."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds; a plain number is meant in seconds."""
        from autopoll.clock import Duration
        from autopoll.errors import UsageError

        text = str(value)
        try:
            return Duration.parse(f"{text}s" if text.replace(".", "", 1).isdigit() else text)
        except UsageError as error:
            self.fail(f"{error.what}. {error.mend}", param, ctx)
