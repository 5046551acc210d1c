"""The identity of a home: what tells it from the other homes that share its bridge."""

import os
import re
import secrets

from autopoll.errors import AutopollError
from autopoll.home import files
from autopoll.home.home import Home

_FORM = re.compile(rb"[0-9a-f]{32}")


def known_identity(home: Home) -> str | None:
    """Return the random id that the home keeps; None when it has none yet."""
    kept = files.get(home.identity)
    return kept.decode() if kept is not None and _FORM.fullmatch(kept) else None


def identity_of(home: Home) -> str:
    """Return the random id that the home keeps; make it when there is none, or none of this form.

    It is no host name, of which two hosts may have the same. Raises AutopollError when it cannot be
    read or kept. Called by the poller alone, so that no two are made.
    """
    if known := known_identity(home):
        return known
    # What is there and cannot be read is kept: another id would be that of another home.
    if files.get(home.identity) is None and os.path.lexists(home.identity):
        raise AutopollError(
            f"cannot read {home.identity}",
            "Make it a file that this user may read; without it the home takes itself for new.",
        )
    made = secrets.token_hex(16)
    try:
        files.put(home.identity, made.encode(), durable=True)
    except OSError as error:
        raise AutopollError(
            f"cannot write {home.identity}: {error.strerror}",
            "Make room on the disk, and see that nothing else lies in its place.",
        ) from error
    return made
