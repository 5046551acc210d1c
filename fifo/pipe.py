"""Make, check and open named pipes, so that only what we made ourselves is ever used.

Every open is `O_NOFOLLOW|O_CLOEXEC|O_NONBLOCK`, followed by a look at what was opened: a FIFO,
ours, mode 0600, one link. Never O_RDWR: such a descriptor reads back its own writes and hides
hang-ups.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from fifo.exceptions import FolderError, UnsafePipe

CAPACITY = 1024 * 1024  # bytes a pipe holds where the kernel grants it; 64 KiB else
READ_END = os.O_RDONLY
WRITE_END = os.O_WRONLY

_SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MODE = 0o600


class Ends(NamedTuple):
    """The two descriptors by which one side holds a pair."""

    reader: int
    writer: int

    def close(self) -> None:
        """Close both."""
        os.close(self.reader)
        os.close(self.writer)


def check_folder(folder: Path) -> None:
    """Make the folder (0700) where it is missing; raise UnsafePipe when others may write to it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        mode = stat.S_IMODE(found.st_mode)
        raise UnsafePipe(
            f"{folder} is not private: owner {found.st_uid}, mode {mode:04o}",
            f"Make it yours alone: chmod 700 {quote(str(folder))}",
        )


def make(path: Path) -> None:
    """Put a fresh pipe at the path, in place of a pipe of ours; raise UnsafePipe on anything else.

    A fresh one is a new inode: whatever is left in the old pipe is gone with it.
    """
    with suppress(FileNotFoundError):
        found = path.lstat()
        if not stat.S_ISFIFO(found.st_mode) or found.st_uid != os.geteuid():
            raise _unsafe(path, found)
        path.unlink()
    os.mkfifo(path, _MODE)
    path.chmod(_MODE)  # the umask cuts the mode that mkfifo is given


def open_end(path: Path | str, end: int, inode: int | None = None) -> int:
    """Open one end of a pipe and return the descriptor.

    Raises FileNotFoundError, OSError (ENXIO: a write end without a reader), or UnsafePipe when
    it is not a safe pipe, or not the one with the given inode.
    """
    try:
        descriptor = os.open(path, end | _SAFELY)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        # A symlink, a folder, a socket or a closed mode cannot even be opened: say what it is.
        _check(path, os.lstat(path), inode)
        raise error
    try:
        _check(path, os.fstat(descriptor), inode)
    except UnsafePipe:
        os.close(descriptor)
        raise
    return descriptor


def open_ends(
    reader: Path, writer: Path, inodes: tuple[int, int] | tuple[None, None] = (None, None)
) -> Ends:
    """Open the read end of one pipe, then the write end of another, and widen both.

    Reading ends come first on both sides, because a write end opens only where someone reads.
    Raises what `open_end` raises.
    """
    reading = open_end(reader, READ_END, inodes[0])
    try:
        ends = Ends(reading, open_end(writer, WRITE_END, inodes[1]))
    except (OSError, UnsafePipe):
        os.close(reading)
        raise
    for descriptor in ends:
        with suppress(OSError):  # as over this user's share of pipe memory: it works as it is
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, CAPACITY)
    return ends


def intact(path: Path, inode: int) -> bool:
    """Tell whether the path still names the pipe with that inode, safe as we made it."""
    try:
        _check(path, path.lstat(), inode)
    except (FileNotFoundError, UnsafePipe):
        return False
    return True


def remove(path: Path, inode: int) -> None:
    """Remove the pipe, unless another one has taken its place."""
    with suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn what the system refuses inside the block into a FolderError."""
    try:
        yield
    except OSError as error:
        raise FolderError(
            f"{error.filename or folder}: {error.strerror}",
            f"The pipes need a folder that can be written, and room in it: {folder}",
        ) from error


def _check(path: Path | str, found: os.stat_result, inode: int | None) -> None:
    safe = (
        stat.S_ISFIFO(found.st_mode)
        and found.st_uid == os.geteuid()
        and stat.S_IMODE(found.st_mode) == _MODE
        and found.st_nlink <= 1
    )
    if not safe or inode not in (None, found.st_ino):
        raise _unsafe(path, found)


def _unsafe(path: Path | str, found: os.stat_result) -> UnsafePipe:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISFIFO(found.st_mode):
        wrong = f"is {_KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}, not a named pipe"
    elif found.st_uid != os.geteuid():
        wrong = f"belongs to user {found.st_uid}, not to {os.geteuid()}"
    elif mode != _MODE:
        wrong = f"has mode {mode:04o}, not {_MODE:04o}"
    elif found.st_nlink > 1:
        wrong = f"has {found.st_nlink} links, not one"
    else:
        wrong = "is not the pipe that its owner published"
    return UnsafePipe(
        f"{path} {wrong}",
        f"Remove it: rm -r {quote(str(path))}. Its owner makes a new one, if need be on restart.",
    )


_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFLNK: "a symlink",
    stat.S_IFDIR: "a folder",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
