"""The bridge: conversations, messages and deliveries, behind one contract."""

from pathlib import Path

from autopoll.bridge.contract import Bridge, Limits
from autopoll.errors import ConfigError

_SQLITE = "sqlite:///"


def open_bridge(
    url: str, root: Path, limits: Limits, *, create: bool = False, read_only: bool = False
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
