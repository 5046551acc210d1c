"""Where the server says that a pair is there, and whether to believe it."""

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
    path = folder / NAME
    try:
        found = path.lstat()
        text = path.read_bytes() if stat.S_ISREG(found.st_mode) else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    if text is None or found.st_uid != os.geteuid() or found.st_size > _LARGEST:
        raise UnsafePipe(f"{path} is not an endpoint file of ours", f"Remove it: rm -r {path}")
    try:
        return msgspec.json.decode(text, type=Endpoint)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FolderError(f"{path} cannot be read: {error}", "Restart the server.") from error


def started(pid: int) -> int | None:
    """Return when a process started, in clock ticks after boot; None when it does not run."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in brackets may hold anything, even brackets: count the fields from behind it.
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


@cache
def boot_id() -> str:
    """Return the id of this boot of the machine."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:  # hidden in some sandboxes; then a reboot is known by start times alone
        return ""
