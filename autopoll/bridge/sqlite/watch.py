"""Foreign writers, seen through the folder of the database."""

import errno
from pathlib import Path

from inotify_simple import INotify, flags

from autopoll.errors import BridgeError

_MASK = flags.MODIFY | flags.CREATE | flags.MOVED_TO
_LOST = flags.Q_OVERFLOW | flags.IGNORED


class FolderWatch:
    """Readable when the database, its log or its journal was written to, by us or by others.

    The folder is watched and not the files: the last program to close deletes the log, and the next
    log is another file. The event comes before the commit can be seen (the log's index is a memory
    map, which raises no event), so look again for some milliseconds after it.
    """

    def __init__(self, database: Path) -> None:
        self._names = {database.name, f"{database.name}-wal", f"{database.name}-journal"}
        self._inotify: INotify | None = None
        try:
            self._inotify = INotify(nonblocking=True)
            self._inotify.add_watch(database.parent, _MASK)
        except OSError as error:
            self.close()
            knob = "max_user_watches" if error.errno == errno.ENOSPC else "max_user_instances"
            raise BridgeError(
                f"cannot watch {database.parent}: {error.strerror}",
                f"Raise /proc/sys/fs/inotify/{knob}.",
            ) from error

    def fileno(self) -> int:
        """Return the descriptor to wait on; raise BridgeError after close."""
        descriptor: int = self._open().fileno()
        return descriptor

    def read(self) -> bool:
        """Take what is pending; tell whether it concerned the store."""
        # All events are taken before the answer, so that the descriptor falls silent.
        events = self._open().read(timeout=0)
        return any(event.name in self._names or event.mask & _LOST for event in events)

    def close(self) -> None:
        """Stop watching; tolerated twice."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def _open(self) -> INotify:
        if self._inotify is None:
            raise BridgeError("the watch was closed")
        return self._inotify
