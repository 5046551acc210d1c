"""Foreign writers, seen through the folder of the database."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from autopoll.errors import BridgeError

_EVENTS = 1 << 16  # bytes of events taken at once; a commit makes some hundred


class FolderWatch:
    """Readable when the database, its log or its journal was written to, by us or by others.

    The folder is watched and not the files: the last program to close deletes the log, and the next
    log is another file. The event comes before the commit can be seen (the log's index is a memory
    map, which raises no event), so look again for some milliseconds after it.
    """

    after_commit = False

    def __init__(self, database: Path) -> None:
        self._names = {database.name, f"{database.name}-wal", f"{database.name}-journal"}
        self._inotify: Any = None
        try:
            # Here, because it binds functions of the C library, and not every one has them.
            from inotify_simple import INotify, flags

            self._lost = flags.Q_OVERFLOW | flags.IGNORED
            self._inotify = INotify(nonblocking=True)
            self._inotify.add_watch(database.parent, flags.MODIFY | flags.CREATE | flags.MOVED_TO)
        except (ImportError, AttributeError, OSError) as error:
            self.close()
            reason, mend = _explain(error)
            raise BridgeError(f"cannot watch {database.parent}: {reason}", mend) from error

    def fileno(self) -> int:
        descriptor: int = self._open().fileno()
        return descriptor

    def read(self) -> bool:
        # All events are taken before the answer, so that the descriptor falls silent.
        events = self._open().read(timeout=0)
        return any(event.name in self._names or event.mask & self._lost for event in events)

    def drop(self) -> None:
        with suppress(BlockingIOError):  # nothing is pending
            os.read(self._open().fileno(), _EVENTS)

    def notify(self) -> None:
        """Do nothing: a commit is a write, which others see."""

    def require_alive(self) -> None:
        """Do nothing: the kernel says that it has lost events."""

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def _open(self) -> Any:
        if self._inotify is None:
            raise BridgeError("the watch was closed")
        return self._inotify


def _explain(error: Exception) -> tuple[str, str]:
    """Return why there is no watch, and what to do."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EMFILE):
        # The system's own words are those of a full disk, or of too many open files.
        limit = "fs.inotify.max_user_watches" if number == errno.ENOSPC else _used_up()
        return f"all of {limit} are in use", f"Raise {limit}."
    if number in (None, errno.ENOSYS):  # none when the C library has no such functions
        return os.strerror(number) if number else str(error), "This system has no inotify."
    return os.strerror(number), "Check that the folder is there and that this user may read it."


def _used_up() -> str:
    """Return which of the two limits behind EMFILE is used up."""
    try:
        os.close(os.open("/", os.O_RDONLY))
    except OSError:
        return "ulimit -n"
    return "fs.inotify.max_user_instances"
