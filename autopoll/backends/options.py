"""Reads a backend's options into a typed record."""

from pathlib import Path
from typing import TypeVar

import msgspec

from autopoll.backends.contract import Setting
from autopoll.errors import ConfigError
from autopoll.home.toml_file import decode_unit, explained


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The root of every backend's options: an unknown key is an error, not a wish."""


_O = TypeVar("_O", bound=Options)


def read_options(setting: Setting, kind: type[_O]) -> _O:
    """Return the options as a `kind`; raise ConfigError naming shard, key and allowed keys."""
    try:
        return msgspec.convert(setting.options, kind, dec_hook=decode_unit)
    except msgspec.ValidationError as error:
        path, text = explained(error)
        allowed = ", ".join(field.name for field in msgspec.structs.fields(kind)) or "none"
        raise ConfigError(
            f"shards.{setting.shard}.options{path}: {text}", f"Allowed keys: {allowed}."
        ) from error


def option_path(setting: Setting, key: str, name: str) -> Path:
    """Return a path that an option names, meant from the home; raise ConfigError for none."""
    try:
        if "\0" in name:
            raise ValueError("it holds a NUL")
        return (setting.root / Path(name).expanduser()).absolute()
    except (ValueError, RuntimeError) as error:  # no such user
        raise ConfigError(
            f"shards.{setting.shard}.options.{key}: {name[:200]!r} is no path: {error}",
            "Give a path meant from the home.",
        ) from error
