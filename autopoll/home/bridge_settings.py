"""The settings of the bridge, and where they take the password of a server from."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from autopoll.errors import ConfigError
from autopoll.home.bridge_url import BridgeUrl
from autopoll.home.home import Home

_OTHER_PLACES = "Put the password into ~/.pgpass, a service file or a password_file"


class BridgeSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where conversations and messages are stored; relative paths are meant from the home."""

    url: BridgeUrl = BridgeUrl("sqlite:///var/bridge.db")
    listen_url: BridgeUrl | None = None  # of the same server, past a pooler
    password_file: str | None = None


def check(bridge: BridgeSection, refuse: Callable[[str, str, str], NoReturn]) -> None:
    """Refuse settings that do not go together."""
    if not bridge.url.is_server:
        for key in ("listen_url", "password_file"):
            if getattr(bridge, key) is not None:
                refuse(f"bridge.{key}", "is for a PostgreSQL server", "Take it out.")
    for key, url in (("url", bridge.url), ("listen_url", bridge.listen_url)):
        if url and url.has_password and bridge.password_file is not None:
            refuse(
                f"bridge.{key}", "holds a password, beside password_file", "Take one of them out."
            )
    if bridge.listen_url and not bridge.listen_url.is_server:
        refuse("bridge.listen_url", "names no server", "Write it as postgresql://user@host/name.")


def refuse_open_password(path: Path, table: Any) -> None:
    """Raise ConfigError where others may read the file at `path` and its [bridge] has a password.

    `table` is that of the file itself, without what the environment overrides.
    """
    if not isinstance(table, dict):
        return
    for key in ("url", "listen_url"):
        if not _has_password(table.get(key)):
            continue
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:  # its text is checked before it is written
            return
        if mode & (stat.S_IRGRP | stat.S_IROTH):
            raise ConfigError(
                f"{path}: bridge.{key} holds a password, and others may read the file"
                f" (mode {mode:04o})",
                f"{_OTHER_PLACES}; or run: chmod 600 '{path}'. Then change it on the server: "
                "others may have read it.",
            )


def _has_password(url: Any) -> bool:
    try:
        return isinstance(url, str) and BridgeUrl(url).has_password
    except ConfigError:  # said where it is read
        return False


def whole_urls(home: Home, bridge: BridgeSection) -> tuple[BridgeUrl, BridgeUrl | None]:
    """Return url and listen_url with their password; raise ConfigError for the password file."""
    listen = bridge.listen_url
    if bridge.password_file is None:
        return bridge.url, listen
    password = _read_password(home, bridge.password_file)
    return bridge.url.with_password(password), listen.with_password(password) if listen else None


def _read_password(home: Home, name: str) -> str:
    from autopoll.home import private_file  # here: a file of SQLite needs none

    option = f"{home.config}: bridge.password_file"
    try:
        path = home.root / Path(name).expanduser()
    except RuntimeError as error:  # no such user
        raise ConfigError(f"{option}: {error}", "Name a file.") from error
    password = private_file.read_text(path, option, "password").rstrip("\r\n")
    if not password or "\0" in password or "\n" in password:
        why = "several lines" if password else "nothing"
        raise ConfigError(
            f"{option}: {path} holds {why}", "Put the password into it and nothing else."
        )
    return password
