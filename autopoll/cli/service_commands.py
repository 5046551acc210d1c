"""A home that runs from boot on: its systemd service."""

from typing import TYPE_CHECKING

import click

from autopoll.cli import completions
from autopoll.cli.base_command import CommandLine, command, group
from autopoll.cli.confirm import require_yes
from autopoll.cli.output import is_terminal, say
from autopoll.cli.render import print_json
from autopoll.errors import AutopollError, Exit

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from autopoll.ops.systemd_service import SystemdService


def _which(function: "Callable[..., Any]") -> "Callable[..., Any]":
    """Give a command the options that say which service is meant."""
    for option in (
        click.option(
            "--name",
            metavar="NAME",
            default="autopoll",
            shell_complete=completions.nothing,
            help="Name of the unit, by default autopoll. A second home needs another.",
        ),
        click.option("--system", "scope", flag_value="system", help="Of the machine; as root."),
        click.option("--user", "scope", flag_value="user", help="Of the user; else by who asks."),
    ):
        function = option(function)
    return function


@group("service", example="autopoll service install --dry-run\nautopoll service install")
def service() -> None:
    """Have systemd run the home from boot on."""


@command(
    "install",
    group=service,
    fields='{"name","scope","file","unit","written","lingers"}',
    example="autopoll service install --dry-run\n"
    "autopoll service install --linger\n"
    "sudo autopoll service install --system --home /srv/agents",
)
@_which
@click.option("--dry-run", is_flag=True, help="Print the unit, and do nothing.")
@click.option(
    "--linger/--no-linger",
    default=None,
    help="Let services of this user run without a login (loginctl); else you are asked.",
)
def install(
    cli: CommandLine, name: str, scope: str | None, dry_run: bool, linger: bool | None
) -> None:
    """Print a systemd unit for the home, write it, enable it and start it.

    The unit runs `autopoll up --foreground` with the PATH of now. A unit of that name that another
    program, or another home, has written is left alone. Keys for models belong into files that the
    settings name: systemd starts with an empty environment.
    """
    import sys

    import msgspec

    from autopoll.ops import systemd_service as services
    from autopoll.ops.service_unit import UnitScope, unit_of

    made = _service(cli, name, scope)
    unit = unit_of(made.home, made.scope)
    if not cli.json:
        say(f"# {made.file}", err=True)
        say(unit.text(), nl=False)
    if not dry_run:
        services.require_systemd()
        made.require_free()
        if made.scope is UnitScope.USER and not services.lingers():
            if linger is None and is_terminal(sys.stdin) and is_terminal(sys.stderr):
                linger = _wants_linger()
            if linger:
                services.linger("enable-linger")
                unit = msgspec.structs.replace(unit, lingers=True)
        try:
            made.install(unit, _report)
        except AutopollError:
            if unit.lingers and not made.state().installed:
                services.linger("disable-linger")
            raise
        if made.scope is UnitScope.USER and not services.lingers():
            say("it ends with your last login; to keep it: loginctl enable-linger", err=True)
    if cli.json:
        print_json(
            {
                "name": made.name,
                "scope": made.scope,
                "file": str(made.file),
                "unit": unit.text(),
                "written": not dry_run,
                "lingers": services.lingers(),
            }
        )


@command(
    "remove",
    group=service,
    fields='{"name","scope","file","removed"}',
    example="autopoll service remove",
)
@_which
def remove(cli: CommandLine, name: str, scope: str | None) -> int:
    """Stop the service, and take away what `install` has made: the unit, and lingering."""
    made = _service(cli, name, scope)
    removed = made.remove(_report)
    code = cli.code = Exit.OK if removed else Exit.DOWN
    if cli.json:
        print_json(
            {"name": made.name, "scope": made.scope, "file": str(made.file), "removed": removed}
        )
    elif not removed:
        say(f"there is no {made.file}", err=True)
    return code


@command(
    "status",
    group=service,
    fields='{"name","scope","file","installed","active","enabled","status","lingers"}',
    example="autopoll service status",
)
@_which
def status(cli: CommandLine, name: str, scope: str | None) -> int:
    """Show whether the home is a service, and runs; exits with 1 when not, with 2 without one."""
    found = _service(cli, name, scope).state()
    if not found.installed:
        cli.code = Exit.DOWN
    elif found.active != "active":
        cli.code = Exit.FAILED
    if cli.json:
        print_json(found)
    elif not found.installed:
        say(f"no service: there is no {found.file}")
    else:
        say(f"service {found.name} ({found.scope}): {found.active}, {found.enabled}")
        for line in filter(None, (found.status, str(found.file))):
            say(f"  {line}")
        if found.scope == "user" and not found.lingers:
            say("  it ends with your last login; to keep it: loginctl enable-linger")
    return cli.code


def _service(cli: CommandLine, name: str, scope: str | None) -> "SystemdService":
    from autopoll.home.find_home import find
    from autopoll.ops.service_unit import UnitScope
    from autopoll.ops.systemd_service import SystemdService, default_scope

    wanted = UnitScope(scope) if scope else default_scope()
    if wanted is UnitScope.USER:
        return SystemdService(cli.home, name, wanted)
    # Root stays root, for the unit is root's; it runs as the owner of the home.
    return SystemdService(find(cli.home_name, trusting=cli.trusting, acting=False), name, wanted)


def _wants_linger() -> bool:
    try:
        require_yes("let services of this user run without a login")
    except AutopollError:
        return False
    return True


def _report(text: str) -> None:
    say(text, err=True)
