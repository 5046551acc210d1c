"""Who can change what lies at a path: the owners, modes, groups and access lists all along it.

A path is safe for some users when each folder, link and file on the way belongs to one of them and
can be written by nobody else. Folders with the sticky bit, as /tmp, may be on the way: others make
entries of their own there, but cannot replace ours. On a safe path nothing can be exchanged between
the look and the use, so looking first is sound; on any other it would not be.

A group counts as nobody else when no other account is in it, as with the private groups of a umask
of 002. Accounts of a directory service cannot be listed: where ours is one, only a group that has
our name is private. Where there is a POSIX access list, the group bits of the mode are its mask, so
whoever it names shows there, and the list is read. Lists of another kind (NFSv4) are not seen.
"""

import os
import stat
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import msgspec

ROOT = 0
_ACCOUNTS = Path("/etc/passwd")
_LARGEST = 1024 * 1024  # bytes of it that are read; beyond that no group is known to be private
_SYSTEM_UID = 100  # below: accounts of the system, of which some are in root's group (sync, halt)
_SHOWN = 8  # paths in one error
_MOST_LINKS = 40  # as in the kernel
_MOST_MEMBERS = 16
_ACL = "system.posix_acl_access"
_ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP, _ACL_WRITE = 0x02, 0x04, 0x08, 0x02


class Finding(msgspec.Struct, frozen=True):
    """Something on a path that others can change; `foreign` when it is not even ours."""

    path: str
    uid: int
    mode: int
    foreign: bool

    def __str__(self) -> str:
        if self.foreign:
            return f"{self.path} belongs to user {name_of(self.uid)}"
        return f"{self.path} can be written by others (mode {self.mode:04o})"


Seen = dict[tuple[str, bool], "Finding | None"]


def findings(path: Path, users: frozenset[int], seen: Seen | None = None) -> list[Finding]:
    """Return what makes an absolute path unsafe for these users, from / on; a link counts with its
    own folders and with those of its target.

    What is missing is fine. `seen` is kept by the caller to look at each folder but once. Raises
    PermissionError where a folder may not be looked into.
    """
    seen = {} if seen is None else seen
    found = []
    steps = list(_steps(path))
    for number, (place, facts) in enumerate(steps):
        is_end = facts is not None and number == len(steps) - 1
        if facts is not None and (place, is_end) not in seen:
            seen[place, is_end] = _judge(place, facts, users, is_end=is_end)
        if facts is not None and (finding := seen[place, is_end]):
            found.append(finding)
    return found


def others_may_write(path: str, facts: os.stat_result, users: frozenset[int]) -> bool:
    """Tell whether anybody but these users and members of their private groups may write to it."""
    if facts.st_mode & stat.S_IWOTH:
        return True
    if not facts.st_mode & stat.S_IWGRP:
        return False
    entries = _access_list(path)
    if not entries:
        return not _is_private(facts.st_gid, users)
    writers = [(tag, number) for tag, rights, number in entries if rights & _ACL_WRITE]
    return any(
        (tag == _ACL_USER and number not in users)
        or (tag == _ACL_GROUP_OBJ and not _is_private(facts.st_gid, users))
        or (tag == _ACL_GROUP and not _is_private(number, users))
        for tag, number in writers
    )


@lru_cache(maxsize=1)
def outsiders() -> frozenset[int]:
    """Return the user that stands for all who have no number in this user namespace, if there are.

    In a sandbox without root's number all that is root's outside belongs to it. It may be another's
    as well, so it is good for folders on the way and for programs, and never for a home.
    """
    lines = Path("/proc/self/uid_map").read_text("ascii").splitlines()
    ranges = [(int(first), int(count)) for first, _, count in map(str.split, lines)]
    stand_in = int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
    if any(first <= stand_in < first + count for first, count in ranges):
        return frozenset()
    return frozenset((stand_in,))


def how_to_mend(found: list[Finding], me: int, root: Path) -> str:
    """Return what makes a path safe: commands where they can, else to move away from it."""
    opened = [each for each in found if not each.foreign and each.uid == me]
    opened = [each for each in opened if not each.mode & stat.S_ISVTX]
    given = [each for each in found if each.foreign and Path(each.path).is_relative_to(root)]
    for each in found:
        if each not in opened and each not in given:
            return f"Move it to a folder that only you may write to, not below {each.path}"
    commands = []
    if given:
        paths = quoted([each.path for each in given[:_SHOWN]])
        commands.append(f"sudo chown {quoted([name_of(me)])} {paths}")
    if opened:
        commands.append(f"chmod go-w {quoted([each.path for each in opened[:_SHOWN]])}")
    return "If all of it is as you left it, run: " + " && ".join(commands)


def name_of(uid: int) -> str:
    """Return the name of an account, or its number when it has none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def sudo_user(uid: int) -> str:
    """Return an account as `sudo -u` takes it."""
    name = name_of(uid)
    return f"'#{uid}'" if name == str(uid) else quoted([name])


def quoted(paths: Iterable[str]) -> str:
    """Return paths, or other words, as words for a shell."""
    import shlex  # each command looks whether its home is safe, and only errors need this

    return " ".join(shlex.quote(path) for path in paths)


def _steps(path: Path) -> Iterator[tuple[str, os.stat_result | None]]:
    """Yield every folder, link and file that leads to a path; None for one that is not there."""
    rest = list(reversed(path.parts[1:]))
    here, links = "/", 0
    yield here, os.lstat(here)
    while rest:
        name = rest.pop()
        if name == "..":
            here = os.path.dirname(here)  # noqa: PTH120 - many of them, at each start
            continue
        there = f"{here.rstrip('/')}/{name}"
        try:
            facts = os.lstat(there)
        except (FileNotFoundError, NotADirectoryError):
            yield there, None
            return
        yield there, facts
        if not stat.S_ISLNK(facts.st_mode):
            here = there
            continue
        links += 1
        if links > _MOST_LINKS:
            yield there, None  # opening it says so
            return
        target = os.readlink(there)  # noqa: PTH115
        here = "/" if target.startswith("/") else here
        rest += reversed([part for part in target.split("/") if part not in ("", ".")])


def _judge(
    place: str, facts: os.stat_result, users: frozenset[int], *, is_end: bool
) -> Finding | None:
    if facts.st_uid not in users and (is_end or facts.st_uid not in outsiders()):
        return Finding(place, facts.st_uid, stat.S_IMODE(facts.st_mode), foreign=True)
    if stat.S_ISLNK(facts.st_mode) or (facts.st_mode & stat.S_ISVTX and not is_end):
        return None
    if others_may_write(place, facts, users):
        return Finding(place, facts.st_uid, stat.S_IMODE(facts.st_mode), foreign=False)
    return None


def _access_list(path: str) -> list[tuple[int, int, int]]:
    """Return (tag, rights, number) of each entry of a POSIX access list; none when there is none.

    Four bytes of version, then eight for each entry, as linux/posix_acl_xattr.h has it.
    """
    try:
        data = os.getxattr(path, _ACL, follow_symlinks=False)
    except OSError:  # there is none, or the file system knows none
        return []
    return list(struct.iter_unpack("<HHI", data[4 : 4 + (len(data) - 4) // 8 * 8]))


@lru_cache(maxsize=64)
def _is_private(gid: int, users: frozenset[int]) -> bool:
    """Tell whether no account but these is in a group."""
    import grp
    import pwd

    try:
        group = grp.getgrgid(gid)
    except KeyError:  # as in containers; a group of our own has mostly our own number
        if gid not in users and gid != os.getegid():
            return False
        name, members = "", []
    else:
        name, members = group.gr_name, group.gr_mem
    if len(members) > _MOST_MEMBERS:
        return False
    for member in members:
        try:
            if pwd.getpwnam(member).pw_uid not in users:
                return False
        except KeyError:
            continue  # an account that is no more
    local = _local_accounts()
    if local is None:
        return False
    for uid in users - {ROOT} - local.keys():
        try:
            account = pwd.getpwuid(uid)
        except KeyError:
            continue
        if account.pw_gid == gid and account.pw_name != name:
            return False  # others of the directory may have it as well, as `users`
    floor = _SYSTEM_UID if gid == ROOT else 0
    return not any(of == gid and uid not in users and uid >= floor for uid, of in local.items())


def _local_accounts() -> dict[int, int] | None:
    """Return uid -> gid of the accounts of this machine; None when there are too many."""
    try:
        with _ACCOUNTS.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError:
        return {}
    if len(data) > _LARGEST:
        return None
    rows = (line.split(b":") for line in data.splitlines())
    return {
        int(row[2]): int(row[3])
        for row in rows
        if len(row) > 3 and row[2].isdigit() and row[3].isdigit()
    }
