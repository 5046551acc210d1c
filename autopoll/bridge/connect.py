"""Which engine a url names, and the bridge of a home."""

from pathlib import Path

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import BridgeLimits
from autopoll.errors import ConfigError
from autopoll.home.config import Config
from autopoll.home.home import Home

_SQLITE = "sqlite:///"


def connect(home: Home, config: Config, *, create: bool = False, read_only: bool = False) -> Bridge:
    """Open the home's bridge under the limits of its configuration."""
    limits = BridgeLimits(
        max_attempts=config.delivery.max_attempts,
        max_message=config.delivery.max_message,
        token_lifetime_s=config.access.token_lifetime,
        rate_per_s=config.access.rate_per_second,
        rate_burst=config.access.rate_burst,
        redact=config.access.redact,
    )
    return open_bridge(config.bridge.url, home.root, limits, create=create, read_only=read_only)


def open_bridge(
    url: str, root: Path, limits: BridgeLimits, *, create: bool = False, read_only: bool = False
) -> Bridge:
    """Open the bridge that `url` names: `sqlite:///` and a path, relative ones below `root`.

    `create` makes a missing file; `read_only` neither writes nor migrates. Raises ConfigError for
    any other url and BridgeError when the store cannot be used.
    """
    # Most commands import the contract only; the engine's driver is loaded when a store is opened.
    from autopoll.bridge.sqlite import SqliteBridge

    return SqliteBridge(bridge_file(url, root), limits, create=create, read_only=read_only)


def bridge_file(url: str, root: Path) -> Path:
    """Return the file that `url` names; raise ConfigError when it names none."""
    path = url.removeprefix(_SQLITE)
    if path == url or not path or "\0" in path:
        raise ConfigError(
            f"bridge url {url!r} names no store",
            "Use sqlite:///bridge.db (below the home) or sqlite:////absolute/path/bridge.db.",
        )
    return root / path
