"""Adds shards to autopoll.toml and takes them out, leaving all else in it as people wrote it.

Whatever a change comes to is read again before it is written, and must differ from what was there
in that one shard and in nothing else.
"""

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from autopoll.errors import ConfigError

_LARGEST = 1024 * 1024


def read(path: Path) -> str:
    """Return the text of the file as it stands, line ends included; raise ConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    if len(data) > _LARGEST:
        raise ConfigError(f"{path} is larger than {_LARGEST:,} bytes", "Shorten it.")
    return text


def with_shard(text: str, name: str, section: Mapping[str, Any]) -> str:
    """Return the text with a section for the shard at its end; raise ConfigError."""
    wanted = _parsed(text)
    shards = wanted.setdefault("shards", {})
    if not isinstance(shards, dict):
        raise ConfigError("shards is not a table", "Write it as [shards.main].")
    shards[name] = dict(section)
    added = written({"shards": {name: dict(section)}})
    if "\r\n" in text:
        added = added.replace("\n", "\r\n")
    end = "\r\n" if "\r\n" in text else "\n"
    before = text.rstrip() + end + end if text.strip() else ""
    if _is(before + added, wanted):
        return before + added
    raise ConfigError(
        f"a section [shards.{name}] does not go with how shards are written in this file",
        "Write the shards as sections, [shards.main] and so on, or add it by hand:\n" + added,
    )


def written(tables: Mapping[str, Any]) -> str:
    """Return tables as TOML; raise ConfigError for what has no place in it."""
    try:
        return tomlkit.dumps(tables)
    except (TOMLKitError, ValueError, TypeError) as error:
        raise ConfigError(f"the settings cannot be written as TOML: {error}") from error


def without_shard(text: str, name: str) -> str:
    """Return the text without the shard's sections and the comments that stand with them.

    Raises ConfigError when they cannot be told from the rest.
    """
    wanted = _parsed(text)
    del wanted["shards"][name]
    for made in (_cut(text, name), _deleted(text, name)):
        if made is not None and _is(made, wanted):
            return made
    raise ConfigError(
        f"shards.{name} cannot be taken out without touching the rest",
        "Take it out by hand, and run: autopoll reload",
    )


def write(path: Path, text: str) -> None:
    """Put the text in the file's place, whole or not at all; a link stays one, the mode as it is.

    Called with the turn of the home. Raises ConfigError with the old text in place.
    """
    target = path.resolve()
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        facts = target.stat()
        if not facts.st_mode & 0o222 or not os.access(target, os.W_OK):
            raise ConfigError(f"{target} is read-only", f"Allow it first: chmod u+w '{target}'")
        _sweep(target)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fchmod(descriptor, stat.S_IMODE(facts.st_mode))
            if (facts.st_uid, facts.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, facts.st_uid, facts.st_gid)
            os.fsync(descriptor)
        fresh.rename(target)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ConfigError(
            f"{target} cannot be written: {error.strerror}", "It is as it was."
        ) from error


def _sweep(target: Path) -> None:
    """Remove what a writer left that was killed."""
    left = re.compile(re.escape(f".{target.name}.") + r"\d+")
    for entry in target.parent.iterdir():
        if left.fullmatch(entry.name):
            entry.unlink(missing_ok=True)


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"autopoll.toml is not valid TOML: {error}") from error


def _is(text: str, wanted: dict[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False


def _deleted(text: str, name: str) -> str | None:
    """Leave it to the library, which finds every way to write a table, but moves comments."""
    try:
        document = tomlkit.parse(text)
        del document["shards"][name]
        return tomlkit.dumps(document)
    except (TOMLKitError, KeyError, TypeError):
        return None


def _cut(text: str, name: str) -> str:
    """Cut out the sections [shards.NAME] and [shards.NAME.…], each with the comments right above
    its head and among its lines; what follows after an empty line belongs to others."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    heads = [
        (number, path)
        for number, line in enumerate(lines)
        if (path := _head(line)) and _is_whole("".join(lines[:number]))
    ]
    drop: set[int] = set()
    ends = [number for number, _ in heads[1:]] + [len(lines)]
    for (number, path), after in zip(heads, ends, strict=False):
        if path[:2] != ("shards", name):
            continue
        first = number
        while first and _is_comment(lines[first - 1]):
            first -= 1
        last = max(
            each
            for each in range(number, after)
            if lines[each].strip() and not _is_comment(lines[each])
        )
        while last + 1 < after and _is_comment(lines[last + 1]):
            last += 1
        while last + 1 < len(lines) and not lines[last + 1].strip():
            last += 1
        drop.update(range(first, last + 1))
    kept = "".join(line for number, line in enumerate(lines) if number not in drop)
    return kept.rstrip() + ("\r\n" if "\r\n" in text else "\n") if drop else kept


def _head(line: str) -> tuple[str, ...]:
    """Return the path that a section's head names; empty for a line that is none."""
    if not line.lstrip().startswith("["):
        return ()
    try:
        table: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    path = []
    while isinstance(table, dict) and table:
        [(key, table)] = table.items()
        path.append(key)
    return tuple(path)


def _is_whole(text: str) -> bool:
    """Tell whether a text ends outside of every multi-line value."""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")
