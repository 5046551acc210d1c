"""A lock file that one process holds for as long as it lives, and the last epoch it used."""

import fcntl
import os
import stat
from pathlib import Path
from shlex import quote

import msgspec

from fifo.exceptions import AlreadyHeld, UnsafePipe

_WIDTH = 64  # bytes of the record: one size for all, so that writing it over needs no new room


class Holder(msgspec.Struct, frozen=True):
    """What the lock file says: who took it last, and the last epoch used under it."""

    pid: int = 0
    epoch: int = 0


class Lock:
    """A held lock. The kernel frees it when the holder dies, however it dies.

    The file is never removed, because removing a lock that someone waits for splits it in two; so
    it is also the place where an epoch outlives its process.
    """

    def __init__(self, path: Path, what: str) -> None:
        """Take the lock; raise AlreadyHeld naming its holder, UnsafePipe or OSError."""
        self._descriptor = _open(path)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = self._read().pid
            os.close(self._descriptor)
            raise AlreadyHeld(
                f"{what} of {path.parent} is taken by process {pid} (lock {path})",
                "Stop that process first.",
                pid=pid,
            ) from error
        self.epoch = self._read().epoch
        try:
            self.record(self.epoch)
        except OSError:
            self.release()
            raise

    @classmethod
    def inherited(cls, descriptor: int) -> "Lock":
        """Return the lock that this process has held since before its exec."""
        lock = cls.__new__(cls)
        lock._descriptor = descriptor
        lock.epoch = lock._read().epoch
        return lock

    @property
    def descriptor(self) -> int:
        """The descriptor that holds it."""
        return self._descriptor

    def record(self, epoch: int) -> None:
        """Note the epoch, together with our pid."""
        text = msgspec.json.encode(Holder(os.getpid(), epoch))
        os.pwrite(self._descriptor, text.ljust(_WIDTH - 1) + b"\n", 0)
        self.epoch = epoch

    def release(self) -> None:
        """Let go; the file and its epoch stay."""
        os.close(self._descriptor)

    def _read(self) -> Holder:
        try:
            return msgspec.json.decode(os.pread(self._descriptor, _WIDTH, 0), type=Holder)
        except msgspec.MsgspecError:
            return Holder()  # new, or cut short by a crash: the clock seeds the next epoch


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    mend = f"Remove it: rm -r {quote(str(path))}"
    if path.is_symlink():
        raise UnsafePipe(f"{path} is a symlink, not a lock file", mend)
    descriptor = os.open(path, flags, 0o600)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        os.close(descriptor)
        raise UnsafePipe(f"{path} is not a lock file of ours", mend)
    return descriptor
