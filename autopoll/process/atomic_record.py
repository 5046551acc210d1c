"""A small record that one process rewrites all the time and others read whenever they like.

The file has two slots, written in turn, each with a sequence number and a checksum; the newest
whole one counts. So no reader sees half a record, and a writer that is killed or stopped in the
middle of one leaves the one before it readable, which a single sequence lock would not. Writing is
a copy into shared memory: no system call, which could give the interpreter lock away to a busy
thread for milliseconds.
"""

import errno
import mmap
import os
import stat
import struct
import zlib
from pathlib import Path

from autopoll.errors import AutopollError

_HEADER = struct.Struct("<8sIQI")  # magic, checksum of all that follows, sequence, length
_START, _REST = struct.Struct("<8sI"), struct.Struct("<QI")  # its two halves
_MAGIC = b"autopoll"
_CHECKED_FROM = _START.size
_SLOT = 1024
_SIZE = 2 * _SLOT
LIMIT = _SLOT - _HEADER.size  # bytes of a record

_UNREADABLE = {
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM,
}  # fmt: skip


class Slots:
    """The writing end; one per file at a time."""

    def __init__(self, path: Path) -> None:
        """Open or make the file, private; AutopollError when there is no room, or no file."""
        self._path = path
        found = _newest(path)
        self._sequence = found[0] if found else 0
        self.previous = found[1] if found else None  # the record found in the file
        self._map, self._inode = _map_file(path)

    def write(self, record: bytes) -> None:
        """Put a record of at most LIMIT bytes in the place of the one before."""
        if len(record) > LIMIT:
            raise ValueError(f"a record of {len(record)} bytes, where {LIMIT} fit")
        self._sequence += 1
        checked = _REST.pack(self._sequence, len(record)) + record
        slot = _START.pack(_MAGIC, zlib.crc32(checked)) + checked
        start = self._sequence % 2 * _SLOT
        self._map[start : start + len(slot)] = slot

    def is_in_place(self) -> bool:
        """Tell whether the path still leads to our file, so that readers find it."""
        try:
            return self._path.stat(follow_symlinks=False).st_ino == self._inode
        except FileNotFoundError:
            return False

    def put_back(self) -> None:
        """Make the file again after it was deleted or replaced; AutopollError as at first."""
        new, self._inode = _map_file(self._path)
        self._map.close()
        self._map = new

    def close(self) -> None:
        """Let go of the file, which stays."""
        self._map.close()


def read(path: Path | str) -> bytes | None:
    """Return the newest whole record; None when there is no file, or none of ours."""
    found = _newest(path)
    return found[1] if found else None


def _newest(path: Path | str) -> tuple[int, bytes] | None:
    """Return the sequence number and the content of the newest whole record."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in _UNREADABLE:
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        for _ in range(10):  # both are torn only if the writer went round while we copied
            data = os.pread(descriptor, _SIZE, 0)
            whole = [found for at in (0, _SLOT) if (found := _unpack(data[at : at + _SLOT]))]
            if whole:
                return max(whole)
        return None
    finally:
        os.close(descriptor)


def _unpack(slot: bytes) -> tuple[int, bytes] | None:
    if len(slot) < _HEADER.size:
        return None
    magic, checksum, sequence, length = _HEADER.unpack_from(slot)
    end = _HEADER.size + length
    if magic != _MAGIC or end > len(slot) or zlib.crc32(slot[_CHECKED_FROM:end]) != checksum:
        return None
    return sequence, slot[_HEADER.size : end]


def _map_file(path: Path) -> tuple[mmap.mmap, int]:
    """Return the file, made if need be and private, as writable memory, and its inode."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise AutopollError(f"{path} is not a file of ours", "Remove what lies there.")
            os.fchmod(descriptor, 0o600)
            # Memory over a hole would end the process with SIGBUS when the disk is full.
            os.posix_fallocate(descriptor, 0, _SIZE)
            return mmap.mmap(descriptor, _SIZE), found.st_ino
        finally:
            os.close(descriptor)
    except OSError as error:
        raise AutopollError(f"{path} cannot be written: {error.strerror}") from error
