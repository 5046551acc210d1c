"""Where the server says that a pair is there, and whether to believe it."""

import errno
import os
import stat
from functools import cache
from pathlib import Path

import msgspec

from fifo.exceptions import FolderError, UnsafePipe

NAME = "endpoint.json"
_LARGEST = 4096
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One pair, as its server published it."""

    epoch: int
    pid: int
    started: int  # clock ticks from boot to the start of the process: a pid alone may be another's
    boot_id: str
    requests_inode: int
    replies_inode: int
    versions: list[int]  # of the protocol, that the server speaks

    def alive(self) -> bool:
        """Tell whether the process that published it still runs."""
        return self.boot_id == boot_id() and self.started == started(self.pid)


def ours(*, epoch: int, versions: list[int], requests_inode: int, replies_inode: int) -> Endpoint:
    """Describe a pair of this process."""
    pid = os.getpid()
    return Endpoint(
        epoch=epoch,
        pid=pid,
        started=started(pid) or 0,
        boot_id=boot_id(),
        requests_inode=requests_inode,
        replies_inode=replies_inode,
        versions=versions,
    )


def publish(folder: Path, endpoint: Endpoint) -> None:
    """Make the endpoint seen, all of it at once."""
    fresh = folder / f"{NAME}.new"
    fresh.write_bytes(msgspec.json.encode(endpoint) + b"\n")
    fresh.chmod(0o600)
    fresh.replace(folder / NAME)


def withdraw(folder: Path) -> None:
    """Make the endpoint unseen."""
    (folder / NAME).unlink(missing_ok=True)


def read(folder: Path) -> Endpoint | None:
    """Return the endpoint, or None where none is published.

    Raises UnsafePipe when the file is not ours, FolderError when it cannot be understood, OSError.
    """
    path = f"{folder}/{NAME}"
    try:
        found, text = _read(path, _LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise
        found, text = os.lstat(path), b""
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or len(text) > _LARGEST:
        raise UnsafePipe(f"{path} is not an endpoint file of ours", f"Remove it: rm -r {path}")
    try:
        return msgspec.json.decode(text, type=Endpoint)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FolderError(f"{path} cannot be read: {error}", "Restart the server.") from error


def started(pid: int) -> int | None:
    """Return when a process started, in clock ticks after boot; None when it does not run."""
    try:
        _, text = _read(f"/proc/{pid}/stat", _LARGEST)
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in brackets may hold anything, even brackets: count the fields from behind it.
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in b"ZX" else int(fields[19])


def _read(path: str, most: int) -> tuple[os.stat_result, bytes]:
    """Return what a file is, and its first bytes; none of what is no regular file.

    By descriptor, for both ends do it once a second: `Path.read_bytes` makes ten calls of it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        return found, os.read(descriptor, most) if stat.S_ISREG(found.st_mode) else b""
    finally:
        os.close(descriptor)


@cache
def boot_id() -> str:
    """Return the id of this boot of the machine."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:  # hidden in some sandboxes; then a reboot is known by start times alone
        return ""
