"""Writes a server into a program's own file of servers, and leaves everything else in it alone."""

import errno
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from autopoll.errors import UsageError
from autopoll.gateway.mcp.clients import Client, Entry
from autopoll.home import files

Change = Literal["added", "replaced", "unchanged"]
LARGEST = 10 * 1024 * 1024
ORDINARY = 0o644  # a project's file is read by others, and there is no secret in it
BY_HAND = "Add the entry by hand; --print shows it."


def write(path: Path, client: Client, name: str, entry: Entry, inputs: list[Entry]) -> Change:
    """Put an entry into a file, which is made if it is not there, whole or not at all.

    Raises UsageError, with the file as it was, for one that is a link, is not one JSON object, or
    cannot be written.
    """
    text, mode = _read(path)
    held = _parse(path, text)
    table = held.setdefault(client.table, {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {client.table} is no object", BY_HAND)
    asked = held.setdefault("inputs", []) if inputs else []
    if not isinstance(asked, list):
        raise UsageError(f"{path}: inputs is no list", BY_HAND)
    missing = [each for each in inputs if each not in asked]
    if table.get(name) == entry and not missing:
        return "unchanged"
    change: Change = "replaced" if name in table else "added"
    table[name] = entry
    asked += missing
    new = json.dumps(held, indent=_indent(text), ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.put(path, new.encode("utf-8", "surrogatepass"), durable=True, mode=mode)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", BY_HAND) from error
    return change


def _read(path: Path) -> tuple[str, int]:
    """Return a file's text and mode; an empty text when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return "", ORDINARY
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(
                f"{path} is a symbolic link", f"Point it out with its true path. {BY_HAND}"
            ) from error
        raise UsageError(f"{path} cannot be read: {error.strerror}", BY_HAND) from error
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise UsageError(f"{path} is not a regular file", BY_HAND)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise UsageError(f"{path} is larger than {LARGEST} bytes", BY_HAND)
    try:
        return data.decode("utf-8-sig"), stat.S_IMODE(facts.st_mode)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start})", BY_HAND) from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    """Return the object that a file is; what could not be written back as it was is refused."""
    if not text.strip():
        return {}
    try:
        held = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is not JSON that can be added to: {error}",
            f"Mend it (comments are not JSON either). {BY_HAND}",
        ) from error
    if not isinstance(held, dict):
        raise UsageError(f"{path} holds no JSON object", BY_HAND)
    return held


def _once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _indent(text: str) -> int | str:
    """Return how the file is indented, by its first line that is."""
    for line in text.splitlines():
        space = line[: len(line) - len(line.lstrip())]
        if space and line.strip():
            return "\t" if space[0] == "\t" else len(space)
    return 2
