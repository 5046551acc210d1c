"""The page in a browser: a code to log in by, and the link that carries it."""

import os
import webbrowser
from html import escape
from typing import TYPE_CHECKING

import click

from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.output import say
from autopoll.cli.render import print_json
from autopoll.errors import ConfigError, Down
from autopoll.home import files

if TYPE_CHECKING:
    from autopoll.home.home import Home

_LINK = """<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={url}">
<title>autopoll</title>
<p><a href="{url}">Open the page</a></p>
"""


@command(
    "desk",
    fields='{"url","code","expires_s"}',
    example="autopoll desk\nautopoll desk --no-browser",
)
@click.option("--no-browser", is_flag=True, help="Open none; show the address and the code.")
def desk(cli: CommandLine, no_browser: bool) -> None:
    """Open the page: the home at a glance, its questions, and how each came to its answer.

    It is served by the gateway, to browsers that were let in: each by a code of its own, which is
    good once and for a minute. A login ends after twelve hours, or by its button.
    """
    from autopoll.home.desk_files import CODE_S, make_code

    url = _address(cli)
    code = make_code(cli.home)
    if cli.json:
        print_json({"url": url, "code": code, "expires_s": CODE_S})
        return
    # In the fragment, which is sent to nobody; and in a file, as ps shows what a browser is given.
    link = cli.home.desk / "open.html"
    files.put(link, _LINK.format(url=escape(f"{url}#{code}")).encode())
    if not no_browser and _has_screen() and webbrowser.open(link.as_uri()):
        say(f"opened {url}")
        return
    say(f"Open {url} and type this code, which is good for {CODE_S} seconds: {code}")
    if os.environ.get("SSH_CONNECTION"):
        port = url.split(":")[2].partition("/")[0]
        say(f"From another machine first: ssh -L {port}:127.0.0.1:{port} {os.uname().nodename}")


def _address(cli: CommandLine) -> str:
    """Return where to log in; raise ConfigError or Down where nothing serves the page."""
    from autopoll.process import heartbeat

    settings = cli.config.gateway
    if not settings.enabled:
        raise ConfigError(
            f"{cli.home.config}: the gateway, which serves the page, is not enabled",
            "Set gateway.enabled = true there, and run: autopoll reload",
        )
    address = settings.address
    if address.path:
        raise ConfigError(
            f"{cli.home.config}: gateway.listen is {settings.listen}, which no browser can reach",
            'Set it to an address such as "127.0.0.1:8765", and run: autopoll reload',
        )
    beat = heartbeat.read(cli.home.beats / "gateway")
    if beat is None or not heartbeat.is_alive(beat) or beat.state not in heartbeat.READY:
        raise Down("the gateway, which serves the page, is not up", _mend(cli.home))
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is listened on
    host = everywhere.get(address.host, address.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{address.port}/desk/login"


def _mend(home: "Home") -> str:
    return "Start the home with: autopoll up. Or see why: autopoll logs gateway"


def _has_screen() -> bool:
    """Tell whether there is a screen for a browser; else one of the terminal would be opened."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
