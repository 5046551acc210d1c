"""Who started, stopped, paused or resumed what, and when: one JSON object a line.

What is written is bounded: a file that has grown is kept as the one before, and a new one is begun.
"""

import contextlib
import logging
import os
import pwd
from pathlib import Path

import msgspec

from autopoll.clock import utc_now
from autopoll.home import files
from autopoll.home.home import Home
from autopoll.text import storable

_LARGEST = 256 * 1024  # bytes of each of the two files
_TEXT = 500  # characters

log = logging.getLogger(__name__)


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that somebody did to a home."""

    at: str  # UTC, ISO 8601
    did: str  # started | stopped | paused | resumed
    by: str  # user@host
    command: str = ""
    pid: int = 0
    shard: str | None = None
    detail: str = ""


def operator_name() -> str:
    """Return who runs this process: user@host, and for whom where sudo says so."""
    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:  # an account that only a container has
        user = f"uid {uid}"
    asked_by = os.environ.get("SUDO_USER", "")[:64]
    name = f"{asked_by} as {user}" if asked_by and asked_by != user else user
    return storable(f"{name}@{os.uname().nodename}")


def note(
    home: Home,
    did: str,
    *,
    by: str | None = None,
    command: str = "",
    shard: str | None = None,
    detail: str = "",
) -> None:
    """Append what was done; a full disk keeps nobody from doing it."""
    operation = Operation(
        at=utc_now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        did=did,
        by=by or operator_name(),
        command=command,
        pid=os.getpid(),
        shard=shard,
        detail=detail[:_TEXT],
    )
    path = home.operations
    try:
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > _LARGEST:
                path.rename(_earlier(home))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(operation) + b"\n")
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning("it cannot be noted who did this: %s", error)


def read(home: Home) -> list[Operation]:
    """Return what is kept, oldest first; lines that are none are passed over."""
    found = []
    for path in (_earlier(home), home.operations):
        for line in (files.get(path) or b"").splitlines():
            with contextlib.suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
                found.append(msgspec.json.decode(line, type=Operation))
    return found


def last(home: Home, *did: str) -> Operation | None:
    """Return the newest operation of these kinds."""
    return next((each for each in reversed(read(home)) if each.did in did), None)


def _earlier(home: Home) -> Path:
    return home.operations.with_name(f"{home.operations.name}.1")
