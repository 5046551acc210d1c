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

from autopoll.backends.context.decoding import Decoded, NoText, decode
from autopoll.backends.context.listing import Listing, walk
from autopoll.backends.context.remarks import Remark, original, printable
from autopoll.backends.contract import Mistaken, Setting
from autopoll.backends.keys import KeyFiles
from autopoll.errors import ConfigError
from autopoll.home.file_stamp import FileStamp
from autopoll.home.home import Home

MAX_BYTES = 16 * 1024 * 1024


class Source(NamedTuple):
    """A context file that was read: its resolved path, its stamp before reading, its text.

    `how` is how it was read, where that is not plain UTF-8.
    """

    path: Path
    stamp: FileStamp
    text: str
    how: str = ""


class Unreadable(Mistaken):
    """A context file that is not read, and why; `failed` when it might be text all the same."""

    def __init__(self, name: str, reason: str, mend: str = "", *, failed: bool = False) -> None:
        super().__init__(f"context file {_quoted(name)} {reason}", mend)
        self.reason = reason
        self.failed = failed


class Context:
    """The readable files of one shard.

    Hidden files and folders below a root are no context: they hold keys and caches more often than
    knowledge. Neither are the home's own files, for var/ holds its tokens and everybody's messages,
    nor the files that its settings name as keys, whichever shard's.
    """

    def __init__(self, setting: Setting) -> None:
        home = Home(setting.root.resolve())
        self._home = home.root
        own = (
            home.var,
            home.config,
            home.shard_files,
            home.supervisord_conf,
            home.program_files,
        )
        self._own = frozenset(path.resolve() for path in own)
        self._key_files = KeyFiles(home)
        self._roots = [root.resolve() for root in setting.context]
        for root in self._roots:
            if self._is_own(root):
                raise ConfigError(
                    f"shards.{setting.shard}.context: {root} is the home's own",
                    "Take it out of the list.",
                )
            if not _exists(root):
                raise ConfigError(
                    f"shards.{setting.shard}.context: {root} does not exist",
                    "Create it, or take it out of the list.",
                )

    @property
    def roots(self) -> list[Path]:
        """The resolved context roots."""
        return list(self._roots)

    def listing(self) -> Listing:
        """Return every regular file under the roots, and what is passed over."""
        found = Listing({}, {})
        private = self._own | self._key_files.paths()
        for root in self._roots:
            walk(root, private, found)
        return Listing(dict(sorted(found.files.items())), found.passed)

    def read(self, name: str) -> Source:
        """Return the context file of that name: absolute, or relative to a root's folder or home.

        Raises Unreadable, naming the file as given, when it is no readable text file of the
        context.
        """
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
                    return Source(path, FileStamp.of(os.fstat(handle)), *_read_text(handle, name))
            finally:
                os.close(handle)
        # One text for "missing" and "outside", so that an asker cannot feel out the file system.
        raise Unreadable(
            name,
            "is not among this shard's context files",
            "Name a file under the shard's context paths.",
        )

    def found(self, path: Path) -> Source | Unreadable:
        """Return what there is in a file of the listing, or why there is nothing."""
        try:
            return self.read(str(path))
        except Unreadable as error:
            return error

    def remark(self, path: Path, found: Source | Unreadable) -> Remark | None:
        """Return the remark on a file that was read, or was not; mostly None."""
        name = self.name(path)
        if isinstance(found, Unreadable):
            return Remark(file=name, reason=found.reason, failed=found.failed)
        if not _is_utf8(path):
            how = f"has a name that is not UTF-8, and is cited by this one {found.how}".rstrip()
            return Remark(file=name, reason=how, skipped=False)
        return Remark(file=name, reason=f"is {found.how}", skipped=False) if found.how else None

    def cite(self, path: Path, first: int, last: int) -> str:
        """Return `path:first-last`, the path as short as it is still clear."""
        return f"{self.name(path)}:{first}-{last}"

    def name(self, path: Path) -> str:
        """Return the path relative to home, or else to the parent of its context root.

        It is valid text on one line, whatever the file is called.
        """
        if path.is_relative_to(self._home):
            return printable(str(path.relative_to(self._home)))
        for root in self._roots:
            if path.is_relative_to(root):
                return printable(str(path.relative_to(root.parent)))
        return printable(str(path))

    def _candidates(self, name: str) -> Iterator[str]:
        """Yield the places where it may be: by its name as it is, and as `printable` shows it."""
        if not name.strip():
            return
        yield from self._places(name)
        if "\\x" in name:
            yield from self._places(original(name))

    def _places(self, name: str) -> Iterator[str]:
        # os.path, because joining by pathlib would already fail on a NUL in some versions.
        if os.path.isabs(name):  # noqa: PTH117
            yield name
            return
        for root in self._roots:
            # Not Path.is_dir, which raises where we may not look.
            folder = root if os.path.isdir(root) else root.parent  # noqa: PTH112
            yield os.path.join(folder, name)  # noqa: PTH118
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


def _exists(path: Path) -> bool:
    """Return whether a path exists; True where we may not look, and reading it then fails."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _quoted(name: str) -> str:
    return repr(name if len(name) <= 200 else name[:200] + "…")


def _read_text(handle: int, name: str) -> Decoded:
    """Return the text behind an O_PATH descriptor; raise Unreadable when there is none."""
    facts = os.fstat(handle)
    if stat.S_ISDIR(facts.st_mode):
        raise Unreadable(name, "is a folder", "Name a file in it.")
    if not stat.S_ISREG(facts.st_mode):
        raise Unreadable(name, "is not a regular file")
    if facts.st_size > MAX_BYTES:
        raise Unreadable(
            name,
            f"has {facts.st_size:,} bytes; the limit is {MAX_BYTES:,}",
            "Name a smaller file, or split it.",
        )
    try:
        # Without waiting: a program with a lease on the file may give it up late.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(f"/proc/self/fd/{handle}", flags), "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except BlockingIOError as error:
        raise Unreadable(name, "is held by another program", failed=True) from error
    except OSError as error:
        raise Unreadable(name, f"cannot be read: {error.strerror}", failed=True) from error
    if len(data) > MAX_BYTES:
        raise Unreadable(name, f"grew beyond the limit of {MAX_BYTES:,} bytes")
    try:
        return decode(data)
    except NoText as error:
        raise Unreadable(name, str(error)) from error
