"""What is stored of a token, which session it proves, and when it expires."""

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime

# sha256 and no slow hash: a token is 256 random bits, which no search finds.
_HASHED = "sha256$"
# Followed by unknown random digits, because a legacy server takes the content of the column itself
# for the token.
_REVOKED = "revoked$"
_TOKEN = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CLEAR = re.compile(rb"[0-9a-f]{64}")  # a token as a legacy program keeps it


def new_token() -> str:
    """Return a new token."""
    return secrets.token_hex(32)


def hashed(token: str) -> str:
    """Return what is stored of a token."""
    return _HASHED + hashlib.sha256(token.encode()).hexdigest()


def revoked() -> str:
    """Return what is stored of a token that was revoked."""
    return _REVOKED + secrets.token_hex(32)


def is_well_formed(token: str) -> bool:
    """Return whether it could be a token at all."""
    return _TOKEN.fullmatch(token) is not None


def proven_session(token: str, stored_a: bytes | None, stored_b: bytes | None) -> str | None:
    """Return the session whose token it is, if any.

    Compares in constant time, and as bytes, because a str that is not ASCII raises; and always with
    both, so that the time taken does not show which it was.
    """
    if not is_well_formed(token):
        return None
    clear, digest = token.encode(), hashed(token).encode()
    # What is stored in neither form proves nothing.
    a, b = (
        stored is not None
        and hmac.compare_digest(clear if _CLEAR.fullmatch(stored) else digest, stored)
        for stored in (stored_a, stored_b)
    )
    return "a" if a else "b" if b else None


def iso_naive(ms: int) -> str:
    """Return a time without a zone: one in expires_at makes a legacy program's comparison raise."""
    return datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None).isoformat()


def left_ms(expires: str | None, now: int) -> float | None:
    """Return the time left, None for a token without expiry; what cannot be read has expired."""
    if expires is None:
        return None
    try:
        moment = datetime.fromisoformat(expires)
    except ValueError:
        return 0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000 - now
