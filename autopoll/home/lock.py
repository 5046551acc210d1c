"""A name that only one process may hold, for as long as it lives."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autopoll.errors import AlreadyRunning

STEP_S = 0.02
_LONGEST = 200  # bytes of a pid and a few words
_ALL = Path("/proc/locks")


@contextmanager
def hold(path: Path, what: str) -> Iterator[int]:
    """Hold the lock file for the block and yield its descriptor.

    The kernel frees it when the holder dies, however it dies. Raises AlreadyRunning naming the
    holder's pid.
    """
    descriptor = acquire(path, what)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def hold_in_turn(
    path: Path,
    what: str,
    seconds: float,
    report: Callable[[str], None] | None = None,
    words: str = "",
) -> Iterator[None]:
    """Hold the lock file for the block, waiting for so long while somebody else does.

    `words` say what it is held for. `report` is called with the holder that is waited for. Raises
    AlreadyRunning after the wait.
    """
    deadline = time.monotonic() + seconds
    reported = ""
    while True:
        try:
            descriptor = acquire(path, what, words)
            break
        except AlreadyRunning as error:
            if time.monotonic() > deadline:
                raise
            if report and error.what != reported:
                report(f"waiting: {error.what}")
                reported = error.what
            time.sleep(STEP_S)
    try:
        yield
    finally:
        os.close(descriptor)


def acquire(path: Path, what: str, words: str = "") -> int:
    """Take the lock and return its descriptor, which frees it when closed.

    The file then holds the pid on its first line, and on the second the words, if any.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid, _, doing = os.read(descriptor, _LONGEST).decode("utf-8", "replace").partition("\n")
        os.close(descriptor)
        runs = f"`{doing.strip()}`" if doing.strip() else what
        raise AlreadyRunning(
            f"{runs} is running already, as process {pid or 'unknown'} (lock {path})",
            "Stop that one first; `autopoll status` shows it.",
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n{words}".encode(), 0)
    return descriptor


def holder_of(path: Path) -> int | None:
    """Return the pid of the process that holds the lock, or None; changes nothing.

    It is the pid that the process has for us. A process in a container wrote the one that it has
    there, which is another's here.
    """
    return holder_and_words(path)[0]


def holder_and_words(path: Path) -> tuple[int | None, str]:
    """Return the pid of the process that holds the lock, or None, and what it holds it for."""
    try:
        place = path.stat()
        named, _, words = path.read_text("utf-8").partition("\n")
    except (FileNotFoundError, UnicodeDecodeError):
        return None, ""
    if not (named.isascii() and named.isdigit()):
        return None, ""
    # Found without taking the lock, which would make a racing holder fail. /proc/locks is read a
    # page at a time and may pass over a lock when others are freed meanwhile; what the process
    # itself has open may not, but a child that has inherited the lock would not be seen there.
    device = f"{os.major(place.st_dev):02x}:{os.minor(place.st_dev):02x}"
    for line in _locks(int(named)):
        match line.removeprefix("lock:").split():
            case [_, "FLOCK", _, _, pid, lies, _, _]:
                on, _, inode = lies.rpartition(":")
                # btrfs and overlays give stat(2) another device than they show here.
                if inode == str(place.st_ino) and (on == device or pid == named):
                    return int(pid), words.strip()
    if not _ALL.exists() and _is_taken(path):
        return int(named), words.strip()
    return None, ""


def _locks(pid: int) -> Iterator[str]:
    """Yield a line about each lock that a process has, and about each that there is."""
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or not ours
        for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
            with suppress(FileNotFoundError):  # closed since it was listed
                yield from entry.read_text("ascii").splitlines()
    with suppress(FileNotFoundError):
        yield from _ALL.read_text("ascii").splitlines()


def _is_taken(path: Path) -> bool:
    """Try the lock for a moment, where the kernel shows no list of locks, as in some sandboxes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
