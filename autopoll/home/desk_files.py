"""Who may look at the page: codes to log in by, and the logins of browsers, each in a file.

`autopoll desk` makes a code, the gateway takes it, once, and begins a login. Both are random, and
only their sha256 is kept, as a file's name, in folders that are private to the owner of the home.
So a login outlives a restart of the gateway, and ends by its time, by a logout, or with its file.
"""

import hashlib
import secrets
from pathlib import Path
from typing import TypeVar

import msgspec

from autopoll.clock import wall_ms
from autopoll.home import files
from autopoll.home.home import Home

CODE_S = 60
LOGIN_S = 12 * 3600
MOST = 50  # logins of one home; the oldest makes way
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # none of which is taken for another
_GROUPS, _EACH = 4, 4  # 80 bits

_Kept = TypeVar("_Kept", bound="DeskCode | DeskLogin")


class DeskCode(msgspec.Struct, frozen=True, kw_only=True):
    """A code that was made; times are wall-clock milliseconds."""

    until: int


class DeskLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A browser that was let in; `form_token` stands in each form that it is sent."""

    until: int
    form_token: str


def make_code(home: Home) -> str:
    """Return a code by which a browser is let in once, within CODE_S; raise OSError."""
    code = "-".join("".join(secrets.choice(_LETTERS) for _ in range(_EACH)) for _ in range(_GROUPS))
    _put(home.desk / "codes", code, DeskCode(until=wall_ms() + CODE_S * 1000))
    return code


def take_code(home: Home, code: str) -> bool:
    """Tell whether a code is good, which it is once."""
    path = _path(home.desk / "codes", code.strip().upper())
    found = _read(path, DeskCode)
    try:
        path.unlink()
    except FileNotFoundError:  # never made, or somebody was faster
        return False
    return found is not None and found.until >= wall_ms()


def begin_login(home: Home) -> str:
    """Let a browser in, and return the token that it is known by; raise OSError."""
    token = secrets.token_urlsafe(32)
    login = DeskLogin(until=wall_ms() + LOGIN_S * 1000, form_token=secrets.token_urlsafe(32))
    _put(home.desk / "logins", token, login)
    return token


def login_of(home: Home, token: str) -> DeskLogin | None:
    """Return the login that a token is known by, if it has not ended."""
    found = _read(_path(home.desk / "logins", token), DeskLogin)
    return found if found is not None and found.until >= wall_ms() else None


def end_login(home: Home, token: str) -> None:
    """Let a browser in no more."""
    _path(home.desk / "logins", token).unlink(missing_ok=True)


def _path(folder: Path, secret: str) -> Path:
    return folder / hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _put(folder: Path, secret: str, kept: DeskCode | DeskLogin) -> None:
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
        each.chmod(0o700)
    _make_room(folder)
    files.put(_path(folder, secret), msgspec.json.encode(kept))


def _make_room(folder: Path) -> None:
    """Remove what has ended, and the oldest of what is too much."""
    found = {path: _read(path, DeskCode) for path in folder.iterdir()}
    ends = {path: each.until if each else 0 for path, each in found.items()}
    newest = sorted(ends, key=lambda path: ends[path], reverse=True)[: MOST - 1]
    for path in ends.keys() - {path for path in newest if ends[path] >= wall_ms()}:
        path.unlink(missing_ok=True)


def _read(path: Path, kind: type[_Kept]) -> _Kept | None:
    try:
        return msgspec.json.decode(files.get(path) or b"", type=kind)
    except (msgspec.MsgspecError, UnicodeError):
        return None
