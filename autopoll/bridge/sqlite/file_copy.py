"""A whole copy of a database that others read and write meanwhile, and what a copy holds."""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw

from autopoll.bridge.backup_facts import BackupFacts
from autopoll.bridge.sql.tables import TABLES
from autopoll.bridge.sqlite import schema
from autopoll.bridge.sqlite.busy_handler import BusyHandler
from autopoll.bridge.sqlite.driver_errors import damaged, explained
from autopoll.errors import BridgeError, BridgeFull
from autopoll.home import disk_space, files

_PAGES = 256  # that are copied at once, which nobody who writes has to wait for
_PAUSE_S = 0.002  # after them, so that the disk has time for others
_STEPS = 100_000  # of SQLite's machine between two looks for Ctrl-C
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)  # of some file systems
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Report = Callable[[str], None]


def copy(source: Path, target: Path, report: Report, *, replace: bool = False) -> BackupFacts:
    """Copy a database as it is at this moment; return what is in the copy.

    The copy (0600) comes into its place whole, checked and safe from a power cut, or not at all.
    Raises BridgeError, also where something lies in its place, unless it is to `replace` that; and
    BridgeFull where there is no room for it.
    """
    if not replace and os.path.lexists(target):
        raise _is_there(target)
    with fresh_copy(source, target, report) as fresh:
        found = facts(fresh, source)  # of which it is the copy, whatever is wrong with it
        put_in_place(fresh, target, replace=replace)
    return found


def put_in_place(fresh: Path, target: Path, *, replace: bool = False) -> None:
    """Give a fresh copy its name for good; raises as `copy` does."""
    with _written(target):
        if replace:
            fresh.rename(target)
        else:
            _link(fresh, target)
        files.sync_folder(target.parent)


@contextmanager
def fresh_copy(source: Path, target: Path, report: Report) -> Iterator[Path]:
    """Yield a copy that lies beside its place, and is removed after the block if it is still there.

    It is whole, and on the disk. Raises as `copy` does.
    """
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    with _written(target):
        _sweep(target)
        _require_room(source, target)
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        _fill(source, fresh, target, report)
        with _written(target):
            descriptor = os.open(fresh, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        yield fresh
    finally:
        for end in ("", "-journal"):
            Path(f"{fresh}{end}").unlink(missing_ok=True)


def facts(path: Path, shown: Path | None = None) -> BackupFacts:
    """Read through a copy and return what is in it.

    Raises BridgeError, of the file `shown`, unless it is a whole database of autopoll, of a schema
    that this version knows.
    """
    shown = shown or path
    if not path.is_file():
        raise BridgeError(f"there is no file {shown}")
    with explained(shown), closing(_connect(path, apsw.SQLITE_OPEN_READONLY)) as db:
        version = schema.version(db, shown)
        if version == 0:
            raise BridgeError(f"{shown} holds no bridge of autopoll")
        if version > schema.KNOWN:
            schema.require_current(version, shown)
        rows = db.execute("SELECT name FROM sqlite_schema WHERE type='table'").fetchall()
        missing = {*TABLES} - {name for (name,) in rows}
        if version == schema.KNOWN and missing:
            raise BridgeError(f"{shown} has no table {', '.join(sorted(missing))}")
        _require_whole(db, shown)
        messages, conversations = _count(db, "messages"), _count(db, "conversations")
    return BackupFacts(
        schema=version,
        bytes=path.stat().st_size,
        messages=messages,
        conversations=conversations,
    )


def _fill(source: Path, fresh: Path, target: Path, report: Report) -> None:
    with (
        explained(source),
        closing(_connect(source, apsw.SQLITE_OPEN_READONLY)) as old,
        closing(_connect(fresh, apsw.SQLITE_OPEN_READWRITE)) as new,
    ):
        # Within one transaction: else each commit of another would have the copy begin again.
        old.execute("BEGIN")
        old.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
        with explained(target):
            new.pragma("synchronous", 0)  # it is synced at the end
            with new.backup("main", old, "main") as backup:
                while not backup.done:
                    backup.step(_PAGES)
                    done = backup.page_count - backup.remaining
                    report(f"copying: {100 * done // max(1, backup.page_count)} %")
                    time.sleep(_PAUSE_S)
            new.pragma("journal_mode", "delete")  # so that it is one file, wherever it is taken
            report("checking the copy")


def _count(db: apsw.Connection, table: str) -> int:
    [(number,)] = db.execute(f"SELECT count(*) FROM {table}").fetchall()
    assert isinstance(number, int)
    return number


def _require_whole(db: apsw.Connection, shown: Path) -> None:
    db.set_progress_handler(lambda: False, _STEPS)  # which lets Python see Ctrl-C
    found = [row for (row,) in db.execute("PRAGMA integrity_check(1)")]
    if found != ["ok"]:
        raise damaged(shown, " ".join(str(found[0]).split()))


def _link(fresh: Path, target: Path) -> None:
    """Give the copy its name, which never replaces anything."""
    try:
        os.link(fresh, target)
    except OSError as error:
        if error.errno not in _NO_LINKS or os.path.lexists(target):
            raise
        fresh.rename(target)


def _is_there(target: Path) -> BridgeError:
    return BridgeError(f"{target} is there already", "Name another file, or replace it by: --force")


def _require_room(source: Path, target: Path) -> None:
    """Raise BridgeFull where the disk would be nearly full with the copy."""
    if short := disk_space.shortage_for(target.parent, source.stat().st_size):
        raise BridgeFull(
            f"no room for a copy of {source}: {short}",
            "Make room on that disk, or name a file on another.",
        )


def _sweep(target: Path) -> None:
    """Remove what those have left beside the target who were killed while they wrote a copy."""
    left = re.compile(re.escape(f".{target.name}.") + r"(\d+)(?:-journal)?")
    for entry in target.parent.iterdir():
        name = left.fullmatch(entry.name)
        if name and not Path(f"/proc/{name[1]}").exists():
            entry.unlink(missing_ok=True)


def _connect(path: Path, mode: int) -> apsw.Connection:
    db = apsw.Connection(str(path), flags=mode)
    db.set_busy_handler(BusyHandler())
    return db


@contextmanager
def _written(target: Path) -> Iterator[None]:
    """Translate the system's errors of writing a copy."""
    try:
        yield
    except FileExistsError as error:
        raise _is_there(target) from error
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise BridgeFull(f"no room to write {target}", "Make room on the disk.") from error
        raise BridgeError(
            f"cannot write {target}: {error.strerror}",
            "Name a file in a folder that you may write to.",
        ) from error
