"""What is said of an error, whatever it is, and the exit code that stands for it."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import click

from autopoll.cli.output import say, write_json
from autopoll.errors import AutopollError, Exit

_AGAIN = "Run it again with AUTOPOLL_DEBUG=1 and report what it prints."
_ROOM = "Make room there, and run it again."
_FILES = "Raise the number of open files (ulimit -n), or end what holds them; then run it again."
_LONGEST = 1000  # characters of what happened; with --json all of it is there
_OTHER = "Name another; see --help."
# errno -> (mend, exit code), of a call that the system refused.
_REFUSED = {
    errno.EACCES: ("Run it as the owner of the file, or have the owner let you.", Exit.USAGE),
    errno.EPERM: ("Run it as the owner of the file, or have the owner let you.", Exit.USAGE),
    errno.EROFS: ("The file system is read-only; use a place that can be written.", Exit.USAGE),
    errno.ENOENT: ("Make it, or name another.", Exit.DOWN),
    errno.ENOTDIR: (_OTHER, Exit.USAGE),
    errno.EISDIR: (_OTHER, Exit.USAGE),
    errno.ELOOP: (_OTHER, Exit.USAGE),
    errno.ENAMETOOLONG: (_OTHER, Exit.USAGE),
    errno.ENOSPC: (_ROOM, Exit.DOWN),  # as a bridge that cannot be written
    errno.EDQUOT: (_ROOM, Exit.DOWN),
    errno.EMFILE: (_FILES, Exit.FAILED),
    errno.ENFILE: (_FILES, Exit.FAILED),
    errno.ENOMEM: ("Free memory, and run it again.", Exit.FAILED),
    errno.EAGAIN: ("Raise the number of processes (ulimit -u), or end some.", Exit.FAILED),
    errno.EIO: ("See what the kernel says of the disk: dmesg", Exit.FAILED),
}


def report(what: str, mend: str, *, as_json: bool) -> None:
    """Say on stderr what happened and what to do about it."""
    if as_json:
        import json

        write_json(json.dumps({"error": what, "mend": mend}).encode(), err=True)
    else:
        say(f"autopoll: {_short(what)}" + (f"\n  {mend}" if mend else ""), err=True)


def _short(what: str) -> str:
    """Return text that a person can read, though somebody has given a whole file as a word of it.

    Its end stays: that is where it says what is allowed.
    """
    if len(what) <= _LONGEST:
        return what
    return f"{what[: _LONGEST // 2]} … {what[-_LONGEST // 2 :]}"


def error_text(error: Exception) -> tuple[str, str, int]:
    """Return (what, mend, exit code) of any error."""
    if isinstance(error, AutopollError):
        return error.what, error.mend, error.exit_code
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "autopoll"
        if type(error).__name__ == "NoArgsIsHelpError":
            return f"{path} needs a command", error.format_message(), Exit.USAGE
        return error.format_message(), f"See: {path} --help", Exit.USAGE
    if isinstance(error, OSError):
        return _system_error_text(error)
    what = getattr(error, "what", None)
    if isinstance(what, str):  # fifo's errors, which know nothing of ours
        return what, getattr(error, "mend", ""), Exit.FAILED
    return f"this is a bug in autopoll: {type(error).__name__}: {error}", _AGAIN, Exit.FAILED


def _system_error_text(error: OSError) -> tuple[str, str, int]:
    """Return what is said of a call that the system refused."""
    mend, code = _REFUSED.get(error.errno or 0, (_AGAIN, Exit.FAILED))
    what = error.strerror or str(error) or type(error).__name__
    if error.filename is not None:
        path = os.fsdecode(error.filename) if not isinstance(error.filename, int) else "a file"
        return f"{path}: {what}{_owner(error, path)}", mend, code
    if error.errno == errno.ENOENT and _is_in_removed_folder():
        return "the current folder has been removed", "Go to one that is there, with cd.", code
    return what, mend, code


def _owner(error: OSError, path: str) -> str:
    """Return whose the file is, where that is the reason."""
    if error.errno not in (errno.EACCES, errno.EPERM):
        return ""
    for place in (Path(path), *Path(path).absolute().parents):
        with suppress(OSError):  # it need not be there, or not be seen: a folder above it refused
            return f" ({place} belongs to user {place.stat().st_uid}, you are {os.geteuid()})"
    return ""


def _is_in_removed_folder() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - only whether there is one
    except FileNotFoundError:
        return True
    return False
