"""Shards in files of their own: shards.d/NAME.toml holds what [shards.NAME] would hold.

`shards add` writes such a file and `shards remove` takes it away, so that no command edits a file
that people wrote. Hidden files and the backups of editors (`NAME~`, `#NAME#`) are passed over;
whatever else lies in the folder must be a shard.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from autopoll.errors import ConfigError
from autopoll.home import files, toml_file
from autopoll.home.file_stamp import FileStamp, stamp_of
from autopoll.home.home import Home

SettingsStamp = frozenset[tuple[str, FileStamp]]
SUFFIX = ".toml"
SHARD_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?", re.ASCII)


def path_of(home: Home, name: str) -> Path:
    """Return where the file of a shard is, or would be."""
    return home.shard_files / f"{name}{SUFFIX}"


def read(home: Home) -> dict[str, dict[str, Any]]:
    """Return the table in each file by the name of its shard; raise ConfigError naming the file."""
    tables = {}
    for name in _names(home):
        path = home.shard_files / name
        shard = name.removesuffix(SUFFIX)
        if shard == name or not SHARD_NAME.fullmatch(shard):
            raise ConfigError(
                f"{str(path)!r} is not the name of a shard's file",
                "Name it NAME.toml, NAME made of a-z, 0-9, - and _, 32 at most; or remove it.",
            )
        table = toml_file.parse(path, toml_file.read_text(path, follow=False))
        if "shards" in table:
            raise ConfigError(
                f"{path} holds a table of shards, but a file is one shard",
                f"Write its keys alone, without the line [shards.{shard}].",
            )
        tables[shard] = table
    return tables


def write(home: Home, name: str, text: str) -> None:
    """Write the file of a new shard, private and durable; called while the change lock is held.

    Raises ConfigError with nothing written.
    """
    path = path_of(home, name)
    try:
        home.shard_files.mkdir(mode=0o700, exist_ok=True)
        files.sync_folder(home.root)
        files.sweep(path)
        files.put(path, text.encode(), durable=True)
    except OSError as error:
        with suppress(OSError):  # it may be in place, but not be durable
            path.unlink(missing_ok=True)
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}", "Nothing was changed."
        ) from error


def remove(home: Home, name: str) -> None:
    """Take the file of a shard away, if there is one, and the folder when it was the last.

    Raises ConfigError with the file in place.
    """
    path = path_of(home, name)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be removed: {error.strerror}", "It is as it was."
        ) from error
    with suppress(OSError):  # there are others, or the folder is a link
        home.shard_files.rmdir()
    with suppress(OSError):  # else a power cut may bring it back, and nothing worse
        files.sync_folder(home.shard_files if home.shard_files.is_dir() else home.root)


def text_of(table: Mapping[str, Any]) -> str:
    """Return a table as the text of a file; raise ConfigError for what has no place in TOML."""
    import tomlkit  # only adding a shard needs it
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.dumps(table)
    except (TOMLKitError, ValueError, TypeError) as error:
        raise ConfigError(f"the settings cannot be written as TOML: {error}") from error


def settings_stamp(home: Home) -> SettingsStamp:
    """Return the stamps of all files of the settings."""
    try:
        names = _names(home)
    except ConfigError:  # reading the settings says so
        names = []
    paths = (home.config, *(home.shard_files / name for name in names))
    stamps = ((path.name, stamp_of(path)) for path in paths)
    return frozenset((name, stamp) for name, stamp in stamps if stamp)


def _names(home: Home) -> list[str]:
    try:
        names = os.listdir(home.shard_files)  # noqa: PTH208 - names are wanted, not paths
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(
            f"{home.shard_files} cannot be read: {error.strerror}",
            "Make it a folder of your own: it holds a file for each shard.",
        ) from error
    return sorted(name for name in names if not (name[0] in ".#" or name[-1] == "~"))
