"""The operator's token: whoever shows it may look after the home and ask any shard.

Only its sha256 is kept, which is right for 256 random bits, in a private file; the token itself is
shown once. What is read here takes effect with the next request: nothing is cached.
"""

import hashlib
import hmac
import os
import secrets
import stat

import msgspec

from autopoll.clock import utc_iso, zoned
from autopoll.errors import AlreadyRunning, ConfigError, NotFound
from autopoll.home import files
from autopoll.home.home import Home


class _StoredToken(msgspec.Struct, frozen=True, kw_only=True):
    sha256: str
    created_at: str


def create(home: Home, *, replace: bool = False) -> str:
    """Make a token and return it, this once; the one before ends at once.

    Raises AlreadyRunning when there is one and it is not to be replaced.
    """
    if exists(home) and not replace:
        raise AlreadyRunning(
            "there is an operator's token already, and it is shown only once",
            "Make a new one, which ends the old one: autopoll gateway token --rotate",
        )
    token = secrets.token_hex(32)
    kept = _StoredToken(
        sha256=hashlib.sha256(token.encode()).hexdigest(), created_at=zoned(utc_iso())
    )
    home.var.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.put(home.operator_token, msgspec.json.encode(kept), durable=True)
    return token


def revoke(home: Home) -> None:
    """End the token without a new one; raise NotFound when there is none."""
    try:
        home.operator_token.unlink()
    except FileNotFoundError:
        raise NotFound(
            "there is no operator's token", "Make one with: autopoll gateway token"
        ) from None


def exists(home: Home) -> bool:
    """Tell whether there is a token; raise ConfigError when its file cannot be trusted."""
    return _read(home) is not None


def proves(home: Home, token: str) -> bool:
    """Tell whether this is the token, in constant time; raise ConfigError as `exists` does."""
    kept = _read(home)
    given = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
    return kept is not None and hmac.compare_digest(given.encode(), kept.sha256.encode())


def _read(home: Home) -> _StoredToken | None:
    path = home.operator_token
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise ConfigError(
            f"{path} is not a private file of yours",
            "Remove it and make a new token with: autopoll gateway token",
        )
    try:
        return msgspec.json.decode(files.get(path) or b"", type=_StoredToken)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ConfigError(
            f"{path} is garbled", "Make a new token with: autopoll gateway token --rotate"
        ) from error
