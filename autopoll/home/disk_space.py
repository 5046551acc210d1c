"""Room on a disk: whether what a question needs can be written there; leaves nothing behind."""

import errno
import os
from pathlib import Path

from autopoll.home.byte_size import in_words

LEAST = 64_000_000  # bytes: the log of the bridge, a large question with its answer, and some logs
_PROBE = bytes(64 * 1024)
# What keeps everybody from writing. That we may not write, or no large file, concerns us alone.
_FOR_ALL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def free(folder: Path) -> str:
    """Return how much there is, for people."""
    facts = os.statvfs(folder)
    return f"{in_words(facts.f_bavail * facts.f_frsize)} free at {folder}"


def shortage_for(folder: Path, size: int) -> str:
    """Return why so many bytes more would nearly fill a disk, empty when there is room."""
    facts = os.statvfs(folder)
    if facts.f_bavail * facts.f_frsize >= size + LEAST:
        return ""
    return f"{free(folder)}, {in_words(size + LEAST)} needed"


def shortage(folder: Path) -> str:
    """Return why too little can be written into a folder, empty when there is room."""
    facts = os.statvfs(folder)
    if facts.f_bavail * facts.f_frsize < LEAST:
        return f"{free(folder)}: too little, at least {in_words(LEAST)}"
    if facts.f_files and not facts.f_favail:
        return f"no file can be made at {folder}: its file system has no inodes left"
    return _refusal(folder)


def _refusal(folder: Path) -> str:
    """Try to write, for a quota or a read-only file system shows in nothing else."""
    try:
        # Without a name, so that nobody sees it, and it is gone with its descriptor.
        file = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, _PROBE)
        finally:
            os.close(file)
    except OSError as error:
        if error.errno in _FOR_ALL:
            return f"{folder} cannot be written: {error.strerror}"
    return ""
