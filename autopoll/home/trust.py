"""Whose home it is: nothing of a home is read or started that somebody else can change.

Settings name programs, so whoever can write a home, or put another in its place, can run anything
as the user who types a command there. Every command and role gets its home from find_home.py, which
goes through `enter`, as `init` does, before anything of the home is read. The home, what is read
and started of it, and all folders above must belong to us or to root and be written by nobody else,
which also makes the look sound: where nobody else can write, nobody can exchange what was looked at
(path_safety.py).

Root on the home of a user becomes that user for good, so that no file of root's comes to be there:
when the home was named, never when it was only found. `--trust` is for all that cannot be
mended; it is remembered per user (trusted_homes.py), and holds for no var/, where the tokens are.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from autopoll.errors import Untrusted
from autopoll.home import trusted_homes, user_switch
from autopoll.home.home import Home
from autopoll.home.path_safety import (
    ROOT,
    Finding,
    Seen,
    findings,
    how_to_mend,
    name_of,
    quoted,
    sudo_user,
)


def enter(place: Path, *, named: bool, trusting: bool = False, acting: bool = True) -> Home:
    """Return the home at an absolute path once it is known to be safe; it need not be there yet.

    With `trusting` it is remembered as trusted. Root becomes its owner, unless it was neither
    `named` nor trusted; when not `acting` it stays root. Raises Untrusted with path, owner and
    mend.
    """
    home = Home(Path(os.path.realpath(place)))  # resolve() fails at links in a circle
    me = os.geteuid()
    uid, gid = owner_of(home) if me == ROOT else (me, os.getegid())
    foreign = uid != me
    if foreign and not (named or trusting or trusted_homes.holds(home.root)):
        raise Untrusted(
            f"{home.root} belongs to user {name_of(uid)}, and you are root",
            f"Run it as its owner: sudo -u {sudo_user(uid)} autopoll …; or name it, and root acts "
            f"as its owner: --home {quoted([str(home.root)])}; or trust it, once: --trust",
        )
    users, seen = frozenset((uid, ROOT)), Seen()
    with explain_refusal():
        found = _findings(place, home, users, seen)
        if found and (foreign or not (trusting or trusted_homes.holds(home.root))):
            raise _refused(home, found, uid, may_trust=not foreign)
        _require_own_var(home, users, seen, found)
    if trusting:
        trusted_homes.remember(home.root)
    if foreign and acting:
        user_switch.become(uid, gid)
    return home


@contextmanager
def explain_refusal() -> Iterator[None]:
    """Turn the refusal to look into a folder into an Untrusted."""
    try:
        yield
    except PermissionError as error:
        raise Untrusted(
            f"{error.filename} cannot be looked at: {error.strerror}",
            "Run autopoll as the user to whom the home belongs: sudo -u USER autopoll …",
        ) from error


def owner_of(home: Home) -> tuple[int, int]:
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


def _findings(place: Path, home: Home, users: frozenset[int], seen: Seen) -> list[Finding]:
    """Return all that somebody else can change, of what is read or started of a home."""
    found = findings(place, users, seen)
    parts = [home.config, home.supervisord_conf.parent, home.supervisord_conf]
    for folder, suffix in ((home.program_files, ".conf"), (home.shard_files, ".toml")):
        parts.append(folder)
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208 - names, at each start
        except PermissionError:
            raise
        except OSError:  # there is none
            continue
        parts += [folder / name for name in names if name.endswith(suffix)]
    for part in parts:
        found += findings(part, users, seen)
    return list(dict.fromkeys(found))


def _require_own_var(
    home: Home, users: frozenset[int], seen: Seen, known: Iterable[Finding]
) -> None:
    """Refuse a var/ that is somebody else's, whatever was trusted: the tokens are in it."""
    end = os.path.realpath(home.var)
    for finding in findings(home.var, users, seen):
        # An open mode is left to `require_whole`, so that `health` can report it.
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
