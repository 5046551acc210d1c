"""What a backend may read: the files under a shard's context roots, and nothing else.

The one place that opens a context file. A file is opened with O_PATH first, which neither blocks
on a FIFO nor wakes a device; what was opened is then judged by its descriptor, and the same
descriptor is read. A name swapped between check and reading can therefore not lead outside.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from autopoll.backends.contract import Permanent, Setting
from autopoll.backends.keys import KeyFiles
from autopoll.backends.stamp import Stamp
from autopoll.errors import ConfigError
from autopoll.home import Home

MAX_BYTES = 16 * 1024 * 1024


class Source(NamedTuple):
    """A context file that was read: its resolved path, its stamp before reading, its text."""

    path: Path
    stamp: Stamp
    text: str


class Context:
    """The readable files of one shard.

    Hidden files and folders below a root are no context: they hold keys and caches more often than
    knowledge. Neither are the home's own files, for var/ holds its tokens and everybody's messages,
    nor the files that its settings name as keys, whichever shard's.
    """

    def __init__(self, setting: Setting) -> None:
        home = Home(setting.root.resolve())
        self._home = home.root
        own = (home.var, home.config, home.supervisord_conf, home.shards_d)
        self._own = frozenset(path.resolve() for path in own)
        self._key_files = KeyFiles(home)
        self._roots = [root.resolve() for root in setting.context]
        for root in self._roots:
            if self._is_own(root):
                raise ConfigError(
                    f"shards.{setting.shard}.context: {root} is the home's own",
                    "Take it out of the list.",
                )
            if not root.exists():
                raise ConfigError(
                    f"shards.{setting.shard}.context: {root} does not exist",
                    "Create it, or take it out of the list.",
                )

    @property
    def roots(self) -> list[Path]:
        """The resolved context roots."""
        return list(self._roots)

    def files(self) -> dict[Path, Stamp]:
        """Return every regular file under the roots with its stamp, in order of path.

        Symlinks are passed over: what they lead to inside a root is found as itself, and the rest
        is no context.
        """
        found: dict[Path, Stamp] = {}
        private = self._own | self._key_files.paths()
        for root in self._roots:
            found.update(_walk(root, private))
        return dict(sorted(found.items()))

    def read(self, name: str) -> Source:
        """Return the context file of that name: absolute, or relative to a root's folder or home.

        Raises Permanent, naming the file as given, when it is no readable text file of the context.
        """
        shown = repr(name if len(name) <= 200 else name[:200] + "…")
        for candidate in self._candidates(name):
            try:
                handle = os.open(candidate, os.O_PATH | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError):  # too long, a loop, a NUL, no right to look
                break
            try:
                path = Path(f"/proc/self/fd/{handle}").readlink()
                if self._covers(path):
                    return Source(path, Stamp.of(os.fstat(handle)), _read_text(handle, shown))
            finally:
                os.close(handle)
        # One text for "missing" and "outside", so that an asker cannot feel out the file system.
        raise Permanent(
            f"context file {shown} is not among this shard's context files",
            "Name a file under the shard's context paths.",
        )

    def cite(self, path: Path, first: int, last: int) -> str:
        """Return `path:first-last`, the path as short as it is still clear."""
        return f"{self.name(path)}:{first}-{last}"

    def name(self, path: Path) -> str:
        """Return the path relative to home, or else to the parent of its context root."""
        if path.is_relative_to(self._home):
            return str(path.relative_to(self._home))
        for root in self._roots:
            if path.is_relative_to(root):
                return str(path.relative_to(root.parent))
        return str(path)

    def _candidates(self, name: str) -> Iterator[str]:
        if not name.strip():
            return
        # os.path, because joining by pathlib would already fail on a NUL in some versions.
        if os.path.isabs(name):  # noqa: PTH117
            yield name
            return
        for root in self._roots:
            yield os.path.join(root if root.is_dir() else root.parent, name)  # noqa: PTH118
        yield os.path.join(self._home, name)  # noqa: PTH118

    def _is_own(self, path: Path) -> bool:
        private = self._own | self._key_files.paths()
        return not private.isdisjoint((path, *path.parents))

    def _covers(self, path: Path) -> bool:
        if self._is_own(path):
            return False
        for root in self._roots:
            if path.is_relative_to(root):
                return not any(part.startswith(".") for part in path.relative_to(root).parts)
        return False


def _walk(root: Path, own: frozenset[Path]) -> Iterator[tuple[Path, Stamp]]:
    """Yield the regular files at or under a root; what cannot be looked into is passed over."""
    if not root.is_dir():
        facts = _stat(root)
        if facts is not None and stat.S_ISREG(facts.st_mode):
            yield root, Stamp.of(facts)
        return
    for folder, folders, names in os.walk(root):
        folders[:] = [
            name for name in folders if not name.startswith(".") and Path(folder, name) not in own
        ]
        for name in names:
            path = Path(folder, name)
            facts = None if name.startswith(".") or path in own else _stat(path)
            if facts is not None and stat.S_ISREG(facts.st_mode):
                yield path, Stamp.of(facts)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:  # gone since it was listed
        return None


def _read_text(handle: int, shown: str) -> str:
    """Return the text behind an O_PATH descriptor; raise Permanent when it is not readable text."""
    facts = os.fstat(handle)
    if stat.S_ISDIR(facts.st_mode):
        raise Permanent(f"context file {shown} is a folder", "Name a file in it.")
    if not stat.S_ISREG(facts.st_mode):
        raise Permanent(f"context file {shown} is not a regular file")
    if facts.st_size > MAX_BYTES:
        raise Permanent(
            f"context file {shown} has {facts.st_size:,} bytes; the limit is {MAX_BYTES:,}",
            "Name a smaller file, or split it.",
        )
    try:
        with open(f"/proc/self/fd/{handle}", "rb") as file:  # noqa: PTH123 - a descriptor
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Permanent(f"context file {shown} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise Permanent(f"context file {shown} grew beyond the limit of {MAX_BYTES:,} bytes")
    if b"\0" in data:
        raise Permanent(f"context file {shown} is binary, not text")
    return data.decode("utf-8-sig", "replace")
