"""Room in the log, made before it is needed.

A commit that makes the log longer waits for the file system's journal, too: 550 us where one into
room that is there already takes 330 (ext4, eight pages each). SQLite keeps room once it is there;
here it is made at the start of a poller, so that the first questions after it are as quick.
"""

import os
import time
from pathlib import Path

from autopoll.bridge.sqlite.connection import WAL_LIMIT, SqliteDatabase

_FREE = 10  # times the room must be free on the disk: else it is more use to others
_PIECE = 4 << 20
_LONGEST_S = 0.5  # for which a start is held up


def reserve(db: SqliteDatabase) -> None:
    """Make the log as long as it may become, with zeros, which SQLite takes for its end.

    Written, because room that is only allocated is journalled again when it is used. On a disk with
    little room, or one that is slow, commits go on to make it. Raises BridgeError.
    """
    path = Path(f"{db.path}-wal")
    end = time.monotonic() + _LONGEST_S
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            while time.monotonic() < end:
                with db.writing(durable=False):  # nobody else writes into the log meanwhile
                    if not _write_more(handle):
                        return
                os.fdatasync(handle)  # with the lock free again
        finally:
            os.close(handle)  # which takes no lock along: SQLite has none on this file
    except OSError as error:
        import logging  # only now, because an `ask`, which reserves nothing, does without

        log = logging.getLogger(__name__)
        log.info("no room is made in %s beforehand: %s", path, error.strerror)


def _write_more(handle: int) -> bool:
    """Make the file a piece longer, and tell whether it did. Raises OSError, with it as before."""
    before = os.fstat(handle).st_size
    disk = os.fstatvfs(handle)
    if before >= WAL_LIMIT or disk.f_bavail * disk.f_frsize < _FREE * WAL_LIMIT:
        return False
    try:
        os.pwrite(handle, bytes(min(_PIECE, WAL_LIMIT - before)), before)
    except OSError:
        os.ftruncate(handle, before)
        raise
    return True
