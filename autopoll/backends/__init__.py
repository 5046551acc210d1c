"""Backends: the warm instances that answer, one module each, found by entry point."""

from importlib.metadata import entry_points

from autopoll.backends.contract import Backend, Setting
from autopoll.errors import ConfigError

GROUP = "autopoll.backends"


def open_backend(name: str, setting: Setting) -> Backend:
    """Build the backend of that name, not yet started.

    Raises ConfigError when the name is unknown (naming the known ones), when the backend cannot be
    imported (it may need an extra), or when it rejects its options.
    """
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in known:
        raise ConfigError(
            f"shard {setting.shard}: there is no backend {name!r}",
            f"Known: {', '.join(sorted(known))}.",
        )
    try:
        build = known[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"shard {setting.shard}: backend {name} cannot be loaded: {error}",
            "Install what it needs; docs/backends.md names the extra of each backend.",
        ) from error
    backend: Backend = build(setting)
    return backend
