"""The bridge that a new home is given in the place of a file of its own."""

import json
from pathlib import Path

from autopoll.bridge.connect import open_bridge
from autopoll.bridge.records import BridgeLimits
from autopoll.errors import ConfigError
from autopoll.home.bridge_url import BridgeUrl
from autopoll.home.config import load
from autopoll.home.home import Home

UNNAMED = '# [bridge]\n# url = "sqlite:///var/bridge.db"'


def found_server(root: Path, url: BridgeUrl) -> None:
    """Make the schema on a server that has none, so that a home is made only where it works.

    Raises ConfigError and BridgeError. A file is made with the home it lies in.
    """
    if url.is_server:
        open_bridge(url, root, BridgeLimits(), create=True).close()


def table_of(url: BridgeUrl) -> str:
    """Return the table of the settings that names this bridge."""
    written = json.dumps(url.full, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[bridge]\nurl = {written}"


def refuse_another(home: Home, url: BridgeUrl) -> None:
    """Raise ConfigError where the settings of a home name another bridge."""
    named = load(home).bridge.url
    if str(named) != str(url):  # a password may stand in one of them only
        raise ConfigError(
            f"{home.root} is a home already, with the bridge {named}",
            f"Change [bridge] url in {home.config}, and run: autopoll init '{home.root}'",
        )
