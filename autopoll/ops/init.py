"""Founding a home and making everything in it ready, as often as wanted."""

import hashlib
import os
from importlib.resources import files
from pathlib import Path

import platformdirs

from autopoll.bridge import token_renewal
from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Tokens
from autopoll.client.home_sessions import converse
from autopoll.errors import ConfigError, NotFound
from autopoll.home import credentials, trust, var_check
from autopoll.home.bridge_url import BridgeUrl
from autopoll.home.config import Config
from autopoll.home.home import SOCKET_LIMIT, Home, socket_path
from autopoll.ops import new_bridge

_SETTINGS = """\
# Settings of this autopoll home. Apply changes with `autopoll reload`, which checks them first;
# `autopoll shards add` adds a shard, in a file of its own in shards.d.

[shards.main]
backend = "extract"     # answers from the files below; echo, command and others exist
context = ["."]         # files and folders to answer from, seen from here
# instances = 1         # how many answer side by side
# request_timeout = "120s"

{bridge}

# [delivery]
# visibility_timeout = "60s"
# max_attempts = 5
"""
# In a path `%` breaks supervisord's expansion, `"` its environment, the others are its wildcards.
_CONFLICTING = '%"*?['
_FOLDER, _FILE = 0o755, 0o644  # the umask may take more away, and cannot add to it
_STANDARD_SOCKET = "%(here)s/../var/run/supervisor.sock"


def found(
    root: Path, *, named: bool = True, trusting: bool = False, bridge: BridgeUrl | None = None
) -> tuple[Home, bool]:
    """Make a folder a home, leaving what is there already; tell whether it is a new one.

    Its settings name the `bridge`, which is founded where it is not there yet.
    Nothing that is made can be written by others, whatever the umask. Raises ConfigError for a path
    that supervisord cannot take, a folder that cannot be written, or a home that has another
    bridge; Untrusted as trust.enter does; and BridgeError.
    """
    # absolute() keeps the `..`, and expanduser() of Path fails for a user that there is not.
    root = Path(os.path.abspath(os.path.expanduser(root)))  # noqa: PTH100, PTH111
    _check_path(root)
    trust.enter(root, named=named, trusting=trusting)
    try:
        _make(root)
        # Once more, now that it is there: before, another could have made it as well.
        home = trust.enter(root, named=named, trusting=trusting)
        var_check.require_whole(home)
        _check_path(home.root)
        # The configuration comes last: it alone makes the folder a home for others to find.
        _make(home.supervisord_conf.parent)
        _write_new(home.supervisord_conf, _process_tree(home))
        home.make_private()
        socket_path(home)
        return home, _write_config(home, bridge)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or root} cannot be made: {error.strerror}",
            "Choose a folder that you may write to.",
        ) from error


def prepare(home: Home, config: Config) -> dict[str, Tokens]:
    """Make folders, database and each shard's conversation; return the tokens made just now.

    Changes nothing on a home that is ready, except that an expired token of ours is replaced.
    """
    home.make_private()
    made: dict[str, Tokens] = {}
    bridge = connect(home, config, create=True)
    try:
        with credentials.edit(home) as kept:
            for shard in config.shards:
                known = kept.shards.get(shard)
                if known is None or not _is_there(bridge, known):
                    made[shard] = converse(bridge, shard, kept)
                else:
                    token_renewal.replace_refused(bridge, known, kept)
                bridge.conversations.serve(kept.shards[shard], "b", shard)
    finally:
        bridge.close()
    return made


def _check_path(root: Path) -> None:
    text = str(root)
    for bad in (*_CONFLICTING, *(char for char in text if not char.isprintable())):
        if bad in text:
            raise ConfigError(
                f"{text!r} cannot be a home: supervisord cannot work in a path with {bad!r}",
                "Choose another folder.",
            )


def _process_tree(home: Home) -> str:
    """Return the text of conf/supervisord.conf for this home."""
    text = files("autopoll").joinpath("conf/supervisord.conf").read_text(encoding="utf-8")
    if len(os.fsencode(home.run / "supervisor.sock")) <= SOCKET_LIMIT:
        return text
    # The kernel takes 108 bytes for a socket's path and supervisord binds it with a suffix first.
    name = hashlib.sha256(os.fsencode(home.root)).hexdigest()[:12]
    short = platformdirs.user_state_path("autopoll") / "sock" / f"{name}.sock"
    if len(os.fsencode(short)) > SOCKET_LIMIT or any(bad in str(short) for bad in "%;#"):
        raise ConfigError(
            f"{home.root} is too long a path for a socket, and so is {short}",
            f"Choose a home of at most {SOCKET_LIMIT - 24} bytes, or set XDG_STATE_HOME.",
        )
    _make(short.parent)
    short.parent.chmod(0o700)
    return text.replace(_STANDARD_SOCKET, str(short))


def _write_config(home: Home, bridge: BridgeUrl | None) -> bool:
    """Write the settings unless there are any; tell whether they were written."""
    if bridge is None:
        return _write_new(home.config, _SETTINGS.format(bridge=new_bridge.UNNAMED))
    if home.config.exists():
        new_bridge.refuse_another(home, bridge)
    new_bridge.found_server(home.root, bridge)
    text = _SETTINGS.format(bridge=new_bridge.table_of(bridge))
    return _write_new(home.config, text, mode=0o600 if bridge.has_password else _FILE)


def _write_new(path: Path, text: str, *, mode: int = _FILE) -> bool:
    """Write a file unless there is one; tell whether it was written."""
    if path.exists():
        return False
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.rename(path)
    return True


def _make(folder: Path) -> None:
    """Make a folder and those above it, as far as they are missing."""
    for each in reversed((folder, *folder.parents)):
        each.mkdir(mode=_FOLDER, exist_ok=True)


def _is_there(bridge: Bridge, conversation: str) -> bool:
    try:
        bridge.conversations.get(conversation)
    except NotFound:
        return False
    return True
