"""The front door for agents: serve the Model Context Protocol, and tell its clients where."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autopoll.cli import completions
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
from autopoll.errors import ConfigError, UsageError
from autopoll.gateway.mcp.stdio_claim import claim_stdio

if TYPE_CHECKING:
    from autopoll.gateway.mcp.install import AgentProgram, Scope

CLIENTS = ("claude-code", "claude-desktop", "cursor", "vscode")
NAME = r"[A-Za-z0-9_-]{1,64}"


@click.group(
    "mcp",
    cls=HelpedGroup,
    invoke_without_command=True,
    epilog=epilog("autopoll mcp install --client claude-code\nautopoll mcp --home ~/agents"),
)
@json_option
@home_option
@click.pass_context
def mcp(ctx: click.Context) -> None:
    """Serve one agent over stdin and stdout, as the Model Context Protocol (MCP) says.

    Started by the agent's program, which `install` sets up; several may run beside each other.
    The agent acts as the owner of the home. Ends when stdin does; logs to var/log/mcp.log.
    """
    if ctx.invoked_subcommand is None:
        _serve(ctx.ensure_object(CommandLine))


def _serve(cli: CommandLine) -> None:
    if sys.stdin is not None and sys.stdin.isatty():
        say("autopoll: waits for an agent's program on stdin; see its --help", err=True)
    read, write = claim_stdio()  # before anything that might print is imported
    home, config = cli.home, cli.config
    try:
        from autopoll.gateway.mcp.stdio import run
    except ModuleNotFoundError as error:
        from autopoll.home.installation import extra_command

        raise ConfigError(
            f"the MCP server needs {error.name}", f"Run: {extra_command('gateway')}"
        ) from error
    from autopoll.home import log_files

    home.make_private()
    log_files.setup(home.log, "mcp", shared=True)
    run(home, config, read, write)


@command(
    "install",
    fields='{"client","name","file","entry","change","command"}\n'
    "change: added, replaced, unchanged, printed; command: what adds it without a file, or null",
    group=mcp,
    example="autopoll mcp install --client cursor\n"
    "autopoll mcp install --client claude-code --scope user --print\n"
    "autopoll mcp install --client vscode --http",
)
@click.option(
    "--client",
    "client_name",
    type=click.Choice(CLIENTS),
    default="claude-code",
    show_default=True,
    help="The program to tell.",
)
@click.option(
    "--scope",
    type=click.Choice(["project", "user"]),
    help="For this folder, or for all of yours; else the folder, where the program knows that.",
)
@click.option("--print", "only_print", is_flag=True, help="Show the entry and write nothing.")
@click.option(
    "--name",
    default="autopoll",
    show_default=True,
    shell_complete=completions.nothing,
    help="What the server is called.",
)
@click.option("--http", is_flag=True, help="Reach the gateway instead of starting a server.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --http: the file that the program reads the token from, where it can.",
)
def install(
    cli: CommandLine,
    client_name: str,
    scope: "Scope | None",
    only_print: bool,
    name: str,
    http: bool,
    token_file: Path | None,
) -> None:
    """Tell an agent's program of this home, by adding a server to its file of servers.

    All else in the file stays as it is. A started server acts as you and needs no token. With
    --http the program sends one, which is never written: it is taken from the environment
    (AUTOPOLL_TOKEN), from a file, or asked for, as the program can.
    """
    import re

    from autopoll.gateway.mcp import install as programs

    if not re.fullmatch(NAME, name):
        raise UsageError(f"{name!r} is no name of a server", "Use letters, digits, - and _.")
    if token_file is not None and not http:
        raise UsageError("--token-file is for --http", "A started server needs no token.")
    client = programs.PROGRAMS[client_name]
    if http:
        file = token_file.absolute() if token_file else None
        entry = programs.http_entry(client, _url(cli), file)
    else:
        entry = programs.stdio_entry(client, _program(), cli.home.root)
    by_command = None
    if client_name == "claude-code":
        by_command = programs.add_command(name, entry, scope or "user")
    inputs = client.inputs if http else []
    path, change = None, "printed"
    if not (only_print and client.user is None and scope == "user"):
        path = programs.place(client, scope, Path.cwd(), os.environ)
    if not only_print and path is not None:
        change = programs.write(path, client, name, entry, inputs)
    if cli.json:
        fields = {"client": client_name, "name": name, "file": path and str(path), "entry": entry}
        print_json(fields | {"change": change, "command": by_command})
    elif only_print:
        _show(client, name, entry, inputs, path, by_command)
    else:
        say(f"{path}: server {name} {change}")
        say(f"next: {client.next}")


def _show(
    client: "AgentProgram",
    name: str,
    entry: dict[str, Any],
    inputs: list[dict[str, Any]],
    path: Path | None,
    by_command: str | None,
) -> None:
    """Print what would be written on stdout, and where it belongs on stderr."""
    import json

    if path is None:
        say(by_command or "")
        return
    say(f"autopoll: this belongs into {path}", err=True)
    whole: dict[str, Any] = {"inputs": inputs} if inputs else {}
    say(json.dumps(whole | {client.table: {name: entry}}, indent=2, ensure_ascii=False))
    if by_command:
        say(f"autopoll: or run: {by_command}", err=True)


def _program() -> list[str]:
    """Return how this very installation is started, from anywhere."""
    script = Path(sys.executable).parent / "autopoll"
    if script.is_file():
        return [str(script)]
    return [sys.executable, "-P", "-m", "autopoll"]  # nothing of the folder an agent works in


def _url(cli: CommandLine) -> str:
    """Return where the home's gateway serves agents; raise UsageError where no URL leads to."""
    address = cli.config.gateway.address
    if address.path:
        raise UsageError(
            f"the gateway listens on {cli.config.gateway.listen}, which no URL names",
            "Give gateway.listen an address such as 127.0.0.1:8765, or leave --http out.",
        )
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    host = anywhere.get(address.host, address.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{address.port}/mcp"
