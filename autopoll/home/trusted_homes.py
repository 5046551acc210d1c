"""The homes that this user has decided to trust, a path a line in a file of the user's own."""

import os
from pathlib import Path

from autopoll.errors import Untrusted, UsageError
from autopoll.home import files
from autopoll.home.lock import hold_in_turn
from autopoll.home.path_safety import ROOT, findings

_MOST = 1000
_LOCK_WAIT_S = 5.0


def place() -> Path:
    """Return where the list is: in the user's folder of settings."""
    import platformdirs

    return platformdirs.user_config_path("autopoll") / "trusted"


def holds(root: Path) -> bool:
    """Tell whether a home's real path is in the list; raise Untrusted if others can write it."""
    path = place()
    if not path.exists():
        return False
    _require_own(path)
    return os.fsencode(root) in _lines(path)


def remember(root: Path) -> None:
    """Add a home's real path to the list; raise Untrusted when it cannot be kept."""
    path, entry = place(), os.fsencode(root)
    if b"\n" in entry:
        raise UsageError(f"{root!s:.80} cannot be trusted: its path has two lines", "Rename it.")
    _require_own(path)
    try:
        _make(path.parent)
        with hold_in_turn(path.with_name("trusted.lock"), "another --trust", _LOCK_WAIT_S):
            lines = _lines(path)
            if entry in lines:
                return
            if len(lines) >= _MOST:
                raise Untrusted(f"{path} holds {_MOST} homes already", "Take some out.")
            files.put(path, b"".join(line + b"\n" for line in [*lines, entry]), durable=True)
    except OSError as error:
        raise Untrusted(
            f"the trust in {root} cannot be kept: {error.filename or path}: {error.strerror}",
            "Make that folder yours, or name another by XDG_CONFIG_HOME.",
        ) from error


def _lines(path: Path) -> list[bytes]:
    return [line for line in (files.get(path) or b"").split(b"\n") if line]


def _require_own(path: Path) -> None:
    """Refuse a list that others can change; root's is not in the folder of a user."""
    if found := findings(path, frozenset((os.geteuid(), ROOT))):
        raise Untrusted(
            f"the list of trusted homes is not safe: {found[0]}",
            "Make it yours alone, or name another folder by HOME or XDG_CONFIG_HOME.",
        )


def _make(folder: Path) -> None:
    for each in reversed((folder, *folder.parents)):
        each.mkdir(mode=0o700, exist_ok=True)
