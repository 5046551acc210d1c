"""Whose home it is: nothing of a home is read or started in which somebody else has a hand.

Settings name programs, so whoever can write a home, or put another in its place, runs what he likes
as whoever types a command there. Every command and role gets its home from `find`, and `init` goes
through `enter`, both before anything of the home is read. The home, what is read and started of it,
and all folders above must belong to us or to root and be written by nobody else, which also makes
the look sound: where nobody else can write, nobody can exchange what was looked at (ownership.py).

Root on the home of a user becomes that user for good, so that no file of root's comes to be there:
when the home was named, never when it was only come across. `--trust` is for all that cannot be
mended; it is remembered per user (trusted.py), and holds for no var/, where the tokens are.
"""

import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from autopoll.errors import NotFound, Untrusted
from autopoll.home import owner, trusted
from autopoll.home.home import CONFIG_NAME, Home, default_root
from autopoll.home.ownership import (
    ROOT,
    Finding,
    Seen,
    findings,
    how_to_mend,
    name_of,
    others_may_write,
    quoted,
    sudo_user,
)

_DATABASE = ("bridge.db", "bridge.db-wal", "bridge.db-shm")
_LOGS = (".log", ".stderr", ".jsonl")
_MOST = 1000  # entries of a folder of var/ that are looked at


def find(
    explicit: str | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    trusting: bool = False,
) -> Home:
    """Return the home: `--home`, AUTOPOLL_HOME, the nearest folder upward, the state folder.

    The way upward ends at another file system, and at a folder that others may write to. Raises
    NotFound when none of them holds an autopoll.toml, Untrusted as `enter` does.
    """
    named = explicit or environ.get("AUTOPOLL_HOME")
    if named:
        # That of Path fails for a user that there is not.
        root = Path(os.path.expanduser(named)).absolute()  # noqa: PTH111
        if not _is_home(root):
            raise NotFound(
                f"{root} is no autopoll home: it holds no {CONFIG_NAME}",
                f"Make one with: autopoll init '{root}'",
            )
        return enter(root, named=True, trusting=trusting)
    here = Path.cwd()
    nearest, ended = _nearest(here, trusting=trusting)
    root = nearest or default_root()
    if nearest is None and not _is_home(root):
        raise NotFound(
            f"no autopoll home: no {CONFIG_NAME} in {here}, above it, or in {root}{ended}",
            "Make one here with: autopoll init . (or name one with --home)",
        )
    return enter(root, named=False, trusting=trusting)


def enter(place: Path, *, named: bool, trusting: bool = False) -> Home:
    """Return the home at an absolute path once it is known to be safe; it need not be there yet.

    With `trusting` it is remembered as trusted. Root becomes its owner, unless it was neither
    `named` nor trusted. Raises Untrusted with path, owner and mend.
    """
    home = Home(Path(os.path.realpath(place)))  # resolve() fails at links in a circle
    me = os.geteuid()
    uid, gid = _owner_of(home) if me == ROOT else (me, os.getegid())
    foreign = uid != me
    if foreign and not (named or trusting or trusted.holds(home.root)):
        raise Untrusted(
            f"{home.root} belongs to user {name_of(uid)}, and you are root",
            f"Run it as its owner: sudo -u {sudo_user(uid)} autopoll …; or name it, and root acts "
            f"as its owner: --home {shlex.quote(str(home.root))}; or trust it, once: --trust",
        )
    who, seen = frozenset((uid, ROOT)), Seen()
    with _looking():
        found = _findings(place, home, who, seen)
        if found and (foreign or not (trusting or trusted.holds(home.root))):
            raise _refused(home, found, uid, may_trust=not foreign)
        _require_own_var(home, who, seen, found)
    if trusting:
        trusted.remember(home.root)
    if foreign:
        owner.become(uid, gid)
    return home


def require_whole(home: Home) -> None:
    """Refuse a var/ that others may write to, or of which something belongs to somebody else."""
    complaint = complaint_about(home)
    if complaint:
        raise Untrusted(*complaint)


def complaint_about(home: Home) -> tuple[str, str] | None:
    """Return what is wrong with var/ and its mend, as (what, mend); None when all is ours.

    An earlier `sudo autopoll up` leaves locks and folders of root's, which we may not open.
    """
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
            f"{shlex.quote(user)} {quoted([str(home.var)])}; and if it still does: autopoll down",
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


def _is_home(root: Path) -> bool:
    with _looking():
        return (root / CONFIG_NAME).is_file()


@contextmanager
def _looking() -> Iterator[None]:
    """Say whose a folder is that may not be looked into."""
    try:
        yield
    except PermissionError as error:
        raise Untrusted(
            f"{error.filename} cannot be looked at: {error.strerror}",
            "Run autopoll as the user to whom the home belongs: sudo -u USER autopoll …",
        ) from error


def _nearest(here: Path, *, trusting: bool) -> tuple[Path | None, str]:
    """Return the nearest folder upward that may be a home, or None and where the search ended."""
    me = os.geteuid()
    device = here.stat().st_dev
    for folder in (here, *here.parents):
        try:
            facts = folder.stat()
            has = (folder / CONFIG_NAME).is_file()
        except PermissionError:
            return None, f"; {folder} cannot be looked into"
        if facts.st_dev != device:
            return None, f"; the search ends below {folder}, which is another file system"
        shared = others_may_write(str(folder), facts, frozenset((me, ROOT)))
        # A home of our own that was left open is refused by `enter`, with the way to close it.
        left_open = has and facts.st_uid == me and not facts.st_mode & stat.S_ISVTX
        if shared and not left_open:
            if has and ((trusting and folder == here) or trusted.holds(folder)):
                return folder, ""
            passed = f": its {CONFIG_NAME} is passed over" if has else ""
            return None, f"; the search ends at {folder}, which others may write to{passed}"
        if has:
            return folder, ""
    return None, ""


def _owner_of(home: Home) -> tuple[int, int]:
    """Return (uid, gid) of whoever owns a home: of its folder, or of var/ where that is root's; of
    the nearest folder that is there where it is not made yet."""
    for folder in (home.root, *home.root.parents):
        try:
            facts = folder.stat()
        except OSError:  # it is not there, or may not be looked at
            continue
        if facts.st_uid == ROOT and folder == home.root and home.var.exists():
            facts = home.var.stat()
        return facts.st_uid, facts.st_gid
    return ROOT, ROOT


def _findings(place: Path, home: Home, who: frozenset[int], seen: Seen) -> list[Finding]:
    """Return all in which somebody else has a hand, of what is read or started of a home."""
    found = findings(place, who, seen)
    parts = [home.config, home.supervisord_conf.parent, home.supervisord_conf, home.shards_d]
    try:
        names = sorted(os.listdir(home.shards_d))  # noqa: PTH208 - names, at each start
    except PermissionError:
        raise
    except OSError:  # there is none
        names = []
    parts += [home.shards_d / name for name in names if name.endswith(".conf")]
    for part in parts:
        found += findings(part, who, seen)
    return list(dict.fromkeys(found))


def _require_own_var(home: Home, who: frozenset[int], seen: Seen, known: Iterable[Finding]) -> None:
    """Refuse a var/ that is somebody else's, whatever was trusted: the tokens are in it."""
    end = os.path.realpath(home.var)
    for finding in findings(home.var, who, seen):
        # An open mode is left to `require_whole`, so that `health` can tell of it.
        if finding not in known and (finding.foreign or finding.path != end):
            raise Untrusted(
                f"{finding}, and {home.var} holds the tokens of this home",
                f"Run it as its owner: sudo -u {sudo_user(finding.uid)} autopoll …; or make a var "
                "of your own, where only you may write. No --trust holds for var.",
            )


def _refused(home: Home, found: list[Finding], me: int, *, may_trust: bool) -> Untrusted:
    theirs = [each for each in found if each.foreign and each.path == str(home.root)]
    first = (theirs or found)[0]
    what = f"{first}: autopoll would run what is in {home.root} as user {name_of(me)}"
    if theirs:
        mend = f"Run it as its owner: sudo -u {sudo_user(first.uid)} autopoll …"
    else:
        mend = how_to_mend(found, me, home.root)
    if may_trust:
        mend += "; or, if you trust whoever may write there with all that is yours, once: --trust"
    return Untrusted(what, mend)


def _not_ours(home: Home, me: int) -> Iterator[tuple[str, int]]:
    """Yield (path, uid) of what autopoll itself has made in var/, and does not belong to us."""

    def look(path: str) -> os.stat_result | None:
        try:
            return os.lstat(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None

    names = [str(home.var)]
    names += [str(home.var / name) for name in (*_DATABASE, "credentials", "operator.token")]
    for folder, ends in ((home.locks, ("",)), (home.log, _LOGS), (home.run, None)):
        names.append(str(folder))
        try:
            entries = list(os.scandir(folder))[:_MOST]
        except OSError:  # not there, or not ours, which is told of the folder itself
            continue
        names += [
            entry.path
            for entry in entries
            if (entry.is_dir(follow_symlinks=False) if ends is None else entry.name.endswith(ends))
        ]
    for name in names:
        if (facts := look(name)) and facts.st_uid != me:
            yield name, facts.st_uid
