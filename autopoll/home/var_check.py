"""Whether var/ is all ours: nothing in it belongs to another user, and nobody else may write there.

An earlier `sudo autopoll up` leaves locks and folders of root's, which we may not open.
"""

import os
import stat
from collections.abc import Iterator

from autopoll.errors import Untrusted
from autopoll.home.home import Home
from autopoll.home.path_safety import ROOT, name_of, others_may_write, quoted

_DATABASE = ("bridge.db", "bridge.db-wal", "bridge.db-shm")
_SECRETS = ("credentials", "operator.token")
_LOGS = (".log", ".stderr", ".jsonl")
_MOST = 1000  # entries of a folder of var/ that are looked at


def require_whole(home: Home) -> None:
    """Refuse a var/ that others may write to, or of which something belongs to somebody else."""
    complaint = complaint_about(home)
    if complaint:
        raise Untrusted(*complaint)


def complaint_about(home: Home) -> tuple[str, str] | None:
    """Return what is wrong with var/ and its mend, as (what, mend); None when all is ours."""
    me = os.geteuid()
    found = list(_not_ours(home, me))
    if found:
        path, uid = found[0]
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        name = name_of(me)
        user = name if name == str(me) else f"{name}:"
        return (
            f"{path} belongs to user {name_of(uid)}, not to you ({name}){more}",
            "autopoll has run here as that user. Run: sudo chown -R "
            f"{quoted([user])} {quoted([str(home.var)])}; and if it still does: autopoll down",
        )
    try:
        facts = home.var.stat()
    except FileNotFoundError:
        return None
    if others_may_write(str(home.var), facts, frozenset((me, ROOT))):
        return (
            f"{home.var} can be written by others (mode {stat.S_IMODE(facts.st_mode):04o})",
            f"Run: chmod 700 {quoted([str(home.var)])}",
        )
    return None


def belongs_to_others(home: Home) -> bool:
    """Tell whether something of what autopoll has made in var/ is somebody else's."""
    return any(_not_ours(home, os.geteuid()))


def _not_ours(home: Home, me: int) -> Iterator[tuple[str, int]]:
    """Yield (path, uid) of what autopoll itself has made in var/, and does not belong to us."""

    def look(path: str) -> os.stat_result | None:
        try:
            return os.lstat(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None

    names = [str(home.var)]
    names += [
        str(home.var / name) for name in (*_DATABASE, "credentials", "operator.token", "home.id")
    ]
    for folder, ends in ((home.locks, ("",)), (home.log, _LOGS), (home.run, None)):
        names.append(str(folder))
        try:
            entries = list(os.scandir(folder))[:_MOST]
        except OSError:  # not there, or not ours, which the folder itself shows
            continue
        names += [
            entry.path
            for entry in entries
            if (entry.is_dir(follow_symlinks=False) if ends is None else entry.name.endswith(ends))
        ]
    for name in names:
        if (facts := look(name)) and facts.st_uid != me:
            yield name, facts.st_uid
