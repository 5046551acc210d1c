"""What an error of the driver means: the one place that translates them."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from autopoll.errors import BridgeBusy, BridgeError, BridgeFull, RowRefused

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def explain(error: apsw.Error, path: Path, system_errno: int) -> BridgeError:
    """Return the error to raise; `system_errno` is the system's error behind it, or 0.

    None is BridgeUnavailable: a file is not away for a while, and a commit that fails is rolled
    back.
    """
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return BridgeBusy(
                f"{path} is locked by another program",
                "Try again; `fuser` names the programs that have it open.",
            )
        case apsw.FullError():
            return _full(path)
        case apsw.IOError() if system_errno in _NO_ROOM:
            return _full(path)
        case apsw.ReadOnlyError():
            what = f"{path} or its folder is read-only"
            return BridgeError(what, "Give this user the right to write to both.")
        case apsw.NotADBError():
            what = f"{path} is not an SQLite database, or is encrypted"
            return BridgeError(what, "Move it away, or check [bridge] url in autopoll.toml.")
        case apsw.CorruptError():
            return damaged(path, str(error))
        case apsw.CantOpenError() | apsw.PermissionsError() | apsw.AuthError():
            what = f"cannot open {path}: {error}"
            return BridgeError(
                what, "Check that it is a file and that this user may use it and its folder."
            )
        case apsw.IOError():
            reason = os.strerror(system_errno) if system_errno else str(error)
            return BridgeError(f"cannot read or write {path}: {reason}", "Check the disk.")
        case apsw.ConstraintError() | apsw.MismatchError() | apsw.TooBigError():
            return RowRefused(f"{path}: {error}", "Was its schema changed?")
        case apsw.ConnectionClosedError():
            return BridgeError(f"{path} was closed")
    return BridgeError(f"{path}: {error}", "Was its schema changed by another program?")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Translate the driver's errors where no connection tells more of them."""
    try:
        yield
    except apsw.Error as error:
        raise explain(error, path, 0) from error


def damaged(path: Path, how: str) -> BridgeError:
    """Return the error for a file that is not whole."""
    return BridgeError(
        f"{path} is damaged: {how}",
        "Stop all that use it (autopoll down); restore a backup (autopoll restore FILE), or"
        " try: sqlite3 FILE .recover",
    )


def _full(path: Path) -> BridgeFull:
    what = f"no room to write {path}; nothing was changed"
    return BridgeFull(what, "Make room on the disk, or raise the quota or file size limit.")
