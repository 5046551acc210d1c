"""Room in the log, made before it is needed.

A commit that makes the log longer waits for the file system's journal, too: 550 us where one into
room that is there already takes 330 (ext4, eight pages each). SQLite keeps room once it is there;
here it is made at the start of a poller, so that the first questions after it are as quick.
"""

import os
from pathlib import Path

from autopoll.bridge.sqlite.connection import WAL_LIMIT, Database

_FREE = 10  # times the room must be free on the disk: else it is more use to others
_CHUNK = 1 << 20


def reserve(db: Database) -> None:
    """Make the log as long as it may become, with zeros, which SQLite takes for its end.

    Written, because room that is only allocated is journalled again when it is used. Where there
    is little room on the disk nothing is done, and commits go on to make it. Raises BridgeError.
    """
    path = Path(f"{db.path}-wal")
    with db.writing(durable=False):  # nobody else writes into the log meanwhile
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _fill(handle)
        except OSError as error:
            import logging  # only now, because an `ask`, which reserves nothing, does without

            log = logging.getLogger(__name__)
            log.info("no room is made in %s beforehand: %s", path, error.strerror)
        finally:
            os.close(handle)  # which takes no lock along: SQLite has none on this file


def _fill(handle: int) -> None:
    """Raises OSError, with the file as long as it was before."""
    before = os.fstat(handle).st_size
    disk = os.fstatvfs(handle)
    if disk.f_bavail * disk.f_frsize < _FREE * WAL_LIMIT:
        return
    zeros, end = bytes(_CHUNK), before
    try:
        while end < WAL_LIMIT:
            end += os.pwrite(handle, zeros[: WAL_LIMIT - end], end)
        os.fdatasync(handle)
    except OSError:
        os.ftruncate(handle, before)
        raise
