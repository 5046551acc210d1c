"""Whether a file has changed since it was read."""

import os
from pathlib import Path

import msgspec


class FileStamp(msgspec.Struct, frozen=True):
    """What differs after a file was written, replaced, or made readable.

    To be taken before the file is read, so that no change between the two goes unnoticed.
    """

    mtime_ns: int
    ctime_ns: int
    size: int
    device: int
    inode: int

    @classmethod
    def of(cls, facts: os.stat_result) -> "FileStamp":
        """Return the stamp of a file that was stat'ed."""
        return cls(facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_dev, facts.st_ino)


def stamp_of(path: Path) -> FileStamp | None:
    """Return the stamp of the file that a path leads to; None where there is none to be seen."""
    try:
        return FileStamp.of(path.stat())
    except OSError:
        return None
