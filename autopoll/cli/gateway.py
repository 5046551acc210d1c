"""The gateway: the process itself, and the operator's token to it."""

import click

from autopoll.cli.base_command import (
    CommandLine,
    HelpedGroup,
    command,
    epilog,
    home_option,
    json_option,
)
from autopoll.cli.output import say
from autopoll.cli.render import print_json
from autopoll.cli.roles import run_role
from autopoll.errors import ConfigError, UsageError


@click.group(
    "gateway",
    cls=HelpedGroup,
    invoke_without_command=True,
    epilog=epilog("autopoll gateway --home .\nautopoll gateway token"),
)
@json_option
@home_option
@click.pass_context
def gateway(ctx: click.Context) -> int | None:
    """Serve programs and agents over HTTP, as [gateway] in autopoll.toml says.

    One per home; supervisord keeps it alive when gateway.enabled is true.
    """
    if ctx.invoked_subcommand is not None:
        return None
    cli = ctx.ensure_object(CommandLine)

    def run() -> None:
        try:
            from autopoll.gateway import server
        except ModuleNotFoundError as error:
            from autopoll.home.installation import extra_command

            raise ConfigError(
                f"the gateway needs a package that is missing: {error.name}",
                f"Run: {extra_command('gateway')}",
            ) from error
        server.run(cli.home, cli.config)

    return run_role(run)


@command(
    "token",
    fields='{"token"}, or {"revoked"}',
    group=gateway,
    example="autopoll gateway token\nautopoll gateway token --rotate",
)
@click.option("--rotate", is_flag=True, help="Make a new one; the old one ends at once.")
@click.option("--revoke", is_flag=True, help="End it without a new one.")
def token(cli: CommandLine, rotate: bool, revoke: bool) -> None:
    """Make the operator's token and show it, this once.

    Whoever has it may see and do everything that the gateway offers. Only its digest is kept.
    """
    from autopoll.home import operator_token

    if rotate and revoke:
        raise UsageError("--rotate and --revoke exclude each other", "Give one of them.")
    if revoke:
        operator_token.revoke(cli.home)
        if cli.json:
            print_json({"revoked": True})
        else:
            say("the operator's token has ended")
        return
    made = operator_token.create(cli.home, replace=rotate)
    cli.lost = "The token was not shown; for another: autopoll gateway token --rotate"
    if cli.json:
        print_json({"token": made})
    else:
        say(made)
        say("It is not shown again.", err=True)
