"""The front door for agents: serve the Model Context Protocol, and tell its clients where."""

import sys

import click

from autopoll.cli.front import Front, epilog, home_option, json_option
from autopoll.errors import ConfigError
from autopoll.gateway.mcp.wire import claim

EXTRA = "python3 -m pip install 'autopoll[gateway]'"


@click.group(
    "mcp",
    invoke_without_command=True,
    epilog=epilog("autopoll mcp install --client claude-code\nautopoll mcp --home ~/agents"),
)
@json_option
@home_option
@click.pass_context
def mcp(ctx: click.Context) -> None:
    """Serve one agent over stdin and stdout, as the Model Context Protocol (MCP) says.

    Started by the agent's program, which `install` tells of it; several may run beside each other.
    The agent acts as the owner of the home. Ends when stdin does; logs to var/log/mcp.log.
    """
    if ctx.invoked_subcommand is None:
        _serve(ctx.ensure_object(Front))


def _serve(front: Front) -> None:
    if sys.stdin is not None and sys.stdin.isatty():
        click.echo("autopoll: waits for an agent's program on stdin; see its --help", err=True)
    wire = claim()  # before anything that might print is imported
    home, config = front.home, front.config
    try:
        from autopoll.gateway.mcp.stdio import run
    except ModuleNotFoundError as error:
        raise ConfigError(f"the MCP server needs {error.name}", f"Run: {EXTRA}") from error
    from autopoll import logs

    home.make_private()
    logs.setup(home.log, "mcp", shared=True)
    run(home, config, wire)
