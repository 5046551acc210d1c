"""A settings file as it is read: text, TOML, typed; what is wrong is said with file and key."""

import codecs
import errno
import os
import stat
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from autopoll.clock import Duration
from autopoll.errors import ConfigError, UsageError
from autopoll.home.bridge_url import BridgeUrl
from autopoll.home.byte_size import ByteSize
from autopoll.home.retention_settings import KeptFor

_LARGEST = 1024 * 1024
_T = TypeVar("_T", bound=msgspec.Struct)


def read_text(path: Path, *, follow: bool = True) -> str:
    """Return the text of the file, line ends as they are; raise ConfigError when there is none.

    Without `follow` a symbolic link is refused.
    """
    # A pipe must not hold us.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigError(
                    f"{path} cannot be read: it is not a regular file",
                    "Put the settings there, as a file.",
                )
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(_LARGEST + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise ConfigError(
                f"{path} is a symbolic link", "Put the settings there, as a file."
            ) from error
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise ConfigError(f"{path} is larger than {_LARGEST:,} bytes", "Shorten it.")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()  # Windows editors write a mark first
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not valid TOML: {error}", "Save it in the encoding UTF-8."
        ) from error


def parse(path: Path, text: str) -> dict[str, Any]:
    """Return the tables in the text of a file at this path; raise ConfigError."""
    try:
        return tomllib.loads(text.replace("\r\n", "\n").replace("\r", "\n"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def convert(raw: Any, kind: type[_T], origin: str, key: str = "") -> _T:
    """Return raw as a checked section; raise ConfigError in the words of the file."""
    try:
        return msgspec.convert(raw, kind, dec_hook=decode_unit)
    except msgspec.ValidationError as error:
        path, text = explained(error)
        where = f"{key}{path}".lstrip(".") or "top level"
        mend = _allowed(kind, path) if "unknown key" in text else ""
        raise ConfigError(f"{origin}: {where}: {text}", mend) from error


def explained(error: msgspec.ValidationError) -> tuple[str, str]:
    """Return the key that an error is about, as `.inner.key`, and what is wrong in words."""
    text, _, path = str(error).partition(" - at `$")
    text = text.removeprefix("Object ").replace("missing required field", "lacks the key")
    return path.rstrip("`"), text.replace("contains unknown field", "holds the unknown key")


def decode_unit(kind: type, value: Any) -> Any:
    """Read a duration, a size or a url for msgspec; raise ValueError with the mend."""
    if kind is BridgeUrl:
        if not isinstance(value, str):
            raise ValueError("is no text; write it in quotes")
        try:
            return BridgeUrl(value)
        except ConfigError as error:
            raise ValueError(f"{error.what}; {error.mend}") from error
    if kind in (Duration, ByteSize, KeptFor):
        try:
            return kind.parse(value)
        except UsageError as error:
            raise ValueError(f"{error.what}; {error.mend}") from error
    raise NotImplementedError(kind)  # as msgspec wants it of a type that no hook knows


def _allowed(kind: type[msgspec.Struct], path: str) -> str:
    """Name the keys of the table in which an unknown key stands."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    inner = path.strip(".")
    if inner in fields:
        fields = {field.name: field for field in msgspec.structs.fields(fields[inner].type)}
    return f"Allowed: {', '.join(fields)}."
