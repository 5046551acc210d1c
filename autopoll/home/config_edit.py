"""Takes shards out of autopoll.toml, where people wrote them, and `shards add` of older versions.

The text that comes of it is read again before it is written, and must differ from what was there in
that one shard and in nothing else.
"""

import os
import re
import stat
import tomllib
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import dropwhile, takewhile
from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError

from autopoll.errors import ConfigError
from autopoll.home import files, toml_file


def without_shard(path: Path, text: str, name: str) -> str:
    """Return the text of the file without this shard, if it is in it; raise ConfigError.

    A block of comments right above one of its sections goes with it if an empty line stands before
    it. All others stay: they are about something else, as the head of the file is.
    """
    wanted = toml_file.parse(path, text)
    if wanted.get("shards", {}).pop(name, None) is None:
        return text
    try:
        bare = _without_headings(text, name)
        document = tomlkit.parse(bare)
        del document["shards"][name]
        made = "".join(_with_comments(bare, tomlkit.dumps(document))).rstrip()
        made += "\r\n" if text.endswith("\r\n") else "\n"
        if {"shards": {}, **tomllib.loads(made)} == wanted:  # of none there need be no table
            return made
        why = "without touching the rest"
    except (TOMLKitError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        why = f"({type(error).__name__}: {error})"
    raise ConfigError(
        f"shards.{name} cannot be taken out of {path} {why}",
        "Take it out by hand, and run: autopoll reload",
    )


def write(path: Path, text: str) -> None:
    """Put the text in the file's place, whole or not at all; a link stays one, the mode as it is.

    Called while the change lock is held. Raises ConfigError with the old text in place.
    """
    target = path.resolve()
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        facts = target.stat()
        if not facts.st_mode & 0o222 or not os.access(target, os.W_OK):
            raise ConfigError(f"{target} is read-only", f"Allow it first: chmod u+w '{target}'")
        files.sweep(target)
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


def _without_headings(text: str, name: str) -> str:
    """Return the text without the comments right above the heads of a shard's sections."""
    head = re.compile(
        rf"""\s*\[{{1,2}}\s*["']?shards["']?\s*\.\s*["']?{re.escape(name)}["']?\s*[\].]"""
    )
    kept: list[str] = []
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):  # what else splits lines does not in TOML
        if head.match(line):
            above = len(kept)
            while above and kept[above - 1].lstrip().startswith("#"):
                above -= 1
            if above and not kept[above - 1].strip():
                del kept[above:]
        kept.append(line)
    made = "".join(kept)
    try:
        same = tomllib.loads(made) == tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        same = False
    return made if same else text  # what looked like a head was in a string


def _with_comments(old: str, new: str) -> Iterator[str]:
    """Yield the lines of the new text, and of what is gone the comments that stand apart.

    The library counts all comments up to the next section to the one before them.
    """
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for tag, start, end, first, last in matcher.get_opcodes():
        yield from after[first:last]
        if tag == "delete":
            comments = [*takewhile(_is_comment, reversed(before[start:end]))]
            apart = [*dropwhile(str.strip, reversed(comments))]
            yield from apart if first == 0 or after[first - 1].strip() else apart[1:]


def _is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")
