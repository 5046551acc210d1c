"""A copy put into the place of the database; the one that was there is kept beside it."""

import os
from contextlib import closing, suppress
from pathlib import Path

import apsw

from autopoll.bridge.backup_facts import BackupFacts
from autopoll.bridge.sqlite.driver_errors import explained
from autopoll.bridge.sqlite.file_copy import Report, facts, fresh_copy
from autopoll.errors import BridgeBusy, BridgeError
from autopoll.home import files
from autopoll.home.lock import acquire

_NUMBERED = ("messages", "audit_log", "routes")
_PATIENCE_MS = 1000  # for others who are about to close the file


def restore(backup: Path, target: Path, aside: Path, report: Report) -> BackupFacts:
    """Put a copy of `backup` into the place of `target`, which is kept as `aside`.

    Numbers go on behind those that either has given out, so that none means two things. Raises
    AlreadyRunning while a poller answers for the target, BridgeBusy while another program has it
    open, and BridgeError for a backup that cannot be used; with everything as it was.
    """
    try:
        found = facts(backup)
    except BridgeError as error:
        raise BridgeError(error.what, "Name a whole file that autopoll backup has made.") from error
    lock = acquire(target.with_name(f"{target.name}-poller.lock"), f"a poller of {target}")
    try:
        with fresh_copy(backup, target, report) as fresh:
            last = _let_go(target)
            _count_on(fresh, last)
            _exchange(fresh, target, aside)
    finally:
        os.close(lock)
    return found


def _let_go(target: Path) -> dict[str, int]:
    """See that nobody has the database open, and write its log into it; return its last numbers.

    A damaged one is left as it is.
    """
    if not target.exists():
        return {}
    try:
        with explained(target), closing(apsw.Connection(str(target))) as db:
            db.set_busy_timeout(_PATIENCE_MS)
            # The log of a damaged one is none that SQLite can read, and it would be removed.
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            db.pragma("locking_mode", "exclusive")  # which a file that others have open refuses
            db.execute("BEGIN EXCLUSIVE")
            db.execute("COMMIT")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            last = _last_numbers(db)
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            return last
    except BridgeBusy as error:
        raise BridgeBusy(
            f"another program has {target} open",
            "Stop it; `fuser` names the programs that have the file open.",
        ) from error
    except BridgeError:  # it is kept aside with its log, whatever is wrong with it
        return {}


def _last_numbers(db: apsw.Connection) -> dict[str, int]:
    marks = ",".join("?" * len(_NUMBERED))
    rows = db.execute(f"SELECT name, seq FROM sqlite_sequence WHERE name IN ({marks})", _NUMBERED)
    return {name: seq for name, seq in rows if isinstance(seq, int)}


def _count_on(fresh: Path, last: dict[str, int]) -> None:
    """Have the copy give out no number that the database before it has given out."""
    with explained(fresh), closing(apsw.Connection(str(fresh))) as db:
        for name, seq in last.items():
            db.execute("UPDATE sqlite_sequence SET seq=max(seq,?) WHERE name=?", (seq, name))
            if not db.changes():
                db.execute("INSERT INTO sqlite_sequence(name,seq) VALUES(?,?)", (name, seq))


def _exchange(fresh: Path, target: Path, aside: Path) -> None:
    try:
        if target.exists():
            os.link(target, aside)
        for end in ("-wal", "-shm"):  # of a damaged one, which belong to it
            with suppress(FileNotFoundError):
                Path(f"{target}{end}").rename(f"{aside}{end}")
        fresh.rename(target)
        files.sync_folder(target.parent)
    except OSError as error:
        raise BridgeError(
            f"cannot put the backup into the place of {target}: {error.strerror}",
            f"What was there is in {target}, or in {aside}.",
        ) from error
