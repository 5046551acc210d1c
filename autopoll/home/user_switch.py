"""Root becomes the owner of the home that it is to serve."""

import os
import sys

from autopoll.errors import Untrusted
from autopoll.home.path_safety import name_of, sudo_user

_OF_ROOT = ("HOME", "USER", "LOGNAME", "MAIL", "SHELL")


def become(uid: int, gid: int) -> None:
    """Turn this process of root's into one of that user's, for good: groups, user and environment.

    `gid` is for a user who has no account here, as when a folder of the host is mounted. Raises
    Untrusted when it cannot be done, or when that user could not run autopoll.
    """
    import pwd

    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        account = None
    try:
        if account is None:
            os.setgroups([gid])
        else:
            gid = account.pw_gid
            os.initgroups(account.pw_name, gid)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)  # all three: there is no way back
    except OSError as error:
        raise _cannot(uid, f"root may not become that user here: {error.strerror}") from error
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise _cannot(uid, "the system did not do it")
    for name in [name for name in os.environ if name in _OF_ROOT or name.startswith("XDG_")]:
        del os.environ[name]
    os.environ["HOME"] = account.pw_dir if account else "/"
    if account:
        os.environ |= {"USER": account.pw_name, "LOGNAME": account.pw_name}
        os.environ["SHELL"] = account.pw_shell or "/bin/sh"
    for needed, right in ((sys.executable, os.X_OK), (__file__, os.R_OK)):
        if not os.access(needed, right):
            raise _cannot(uid, f"that user cannot use {needed}")


def _cannot(uid: int, why: str) -> Untrusted:
    return Untrusted(
        f"cannot act as user {name_of(uid)}, to whom the home belongs: {why}",
        "Install autopoll where that user can run it, and run it as that user: "
        f"sudo -u {sudo_user(uid)} autopoll …",
    )
