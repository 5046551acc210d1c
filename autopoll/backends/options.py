"""Reads a backend's options into a typed record."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from autopoll.backends.contract import Setting
from autopoll.clock import Duration
from autopoll.errors import ConfigError, UsageError
from autopoll.home.byte_size import ByteSize


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The root of every backend's options: an unknown key is an error, not a wish."""


_O = TypeVar("_O", bound=Options)


def read_options(setting: Setting, kind: type[_O]) -> _O:
    """Return the options as a `kind`; raise ConfigError naming shard, key and allowed keys."""
    try:
        return msgspec.convert(setting.options, kind, dec_hook=_decode)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        key = "".join((f"shards.{setting.shard}.options", path.rstrip("`")))
        text = text.removeprefix("Object ").replace("missing required field", "lacks the key")
        text = text.replace("contains unknown field", "holds the unknown key")
        allowed = ", ".join(field.name for field in msgspec.structs.fields(kind)) or "none"
        raise ConfigError(f"{key}: {text}", f"Allowed keys: {allowed}.") from error


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


def _decode(kind: type, value: Any) -> Any:
    if kind is Duration or kind is ByteSize:
        try:
            return kind.parse(value)
        except UsageError as error:
            raise ValueError(f"{error.what}; {error.mend}") from error
    raise NotImplementedError(kind)
