"""Lists the files under a context path, with a reason for each that it passes over.

A walk of our own: the library's calls itself for each level, and ends in a deep tree.
"""

import os
import stat
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

from autopoll.backends.context.remarks import Remark
from autopoll.home.file_stamp import FileStamp

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Passed(NamedTuple):
    """Why a file or folder is passed over; `failed` when it could not be looked at."""

    reason: str
    failed: bool


class Listing(NamedTuple):
    """The regular files with their stamps, in order of path, and what was passed over."""

    files: dict[Path, FileStamp]
    passed: dict[Path, Passed]

    def remarks(self, name: Callable[[Path], str]) -> list[Remark]:
        """Return a remark on each that was passed over, under the name that `name` gives."""
        return [
            Remark(file=name(path), reason=each.reason, failed=each.failed)
            for path, each in self.passed.items()
        ]


def walk(root: Path, private: AbstractSet[Path], listing: Listing) -> None:
    """Add what is at or under a root to the listing; hidden and `private` names are left out.

    Symlinks are passed over: what they lead to inside a root is found as itself, and the rest is
    no context. Only one that leads nowhere is reported.
    """
    folders = [root]
    try:
        facts = root.stat()
        if not stat.S_ISDIR(facts.st_mode):
            folders = []
            _add(root, facts, listing)
    except OSError as error:
        folders = []
        listing.passed[root] = Passed(_reason(error), True)
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        path = Path(entry.path)
                        if path not in private:
                            _look(entry, path, folders, listing)
        except OSError as error:
            listing.passed[folder] = Passed(_reason(error), True)


def _look(entry: os.DirEntry[str], path: Path, folders: list[Path], listing: Listing) -> None:
    try:
        if entry.is_symlink():
            if not path.exists():
                listing.passed[path] = Passed("is a symbolic link that leads nowhere", False)
        elif entry.is_dir(follow_symlinks=False):
            folders.append(path)
        else:
            _add(path, entry.stat(follow_symlinks=False), listing)
    except FileNotFoundError:  # gone since it was listed
        return
    except OSError as error:
        if not entry.is_symlink():  # else it leads to where we may not look
            listing.passed[path] = Passed(_reason(error), True)


def _add(path: Path, facts: os.stat_result, listing: Listing) -> None:
    if stat.S_ISREG(facts.st_mode):
        listing.files[path] = FileStamp.of(facts)
    else:
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "something else")
        listing.passed[path] = Passed(f"is {kind}, not a regular file", False)


def _reason(error: OSError) -> str:
    return f"cannot be read: {error.strerror}"
