"""Conversations and who may speak in them."""
# ruff: noqa: S608 - what is put into a statement are constants of this package, never values

import hashlib
import hmac
import json
import re
import secrets
from datetime import UTC, datetime

from autopoll.bridge.records import Conversation, Tokens
from autopoll.bridge.sqlite.rows import Tables, other_session, readable
from autopoll.errors import AccessDenied, NotFound
from autopoll.redact.redact import redact_message
from autopoll.text import storable

# sha256 and no slow hash: the token is 256 random bits, which nobody searches through.
_HASHED = "sha256$"
# Followed by random digits nobody has seen, because a legacy server takes the column's content
# itself for the token.
_REVOKED = "revoked$"
_TOKEN = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CLEAR = re.compile(rb"[0-9a-f]{64}")  # a token as a legacy program keeps it
# Wrong tokens beyond this many a minute and conversation write nothing, so that a stranger can
# neither fill the disk nor keep the write lock busy.
_DENIALS = 10
_DENIAL_SPAN_MS = 60_000


class Access(Tables):
    """Tokens and their life."""

    def create(self, role_a: str, role_b: str) -> Tokens:
        """Create a conversation of two sessions."""
        new = Tokens(
            conversation=f"conv_{secrets.token_hex(8)}",
            a=secrets.token_hex(32),
            b=secrets.token_hex(32),
        )
        now = self.clock()
        with self._writing():
            self._rows(
                "INSERT INTO conversations(id,session_a_role,session_b_role,session_a_token,"
                "session_b_token,created_at,expires_at) VALUES(?,?,?,?,?,?,?)",
                (
                    new.conversation, storable(role_a), storable(role_b), _hashed(new.a),
                    _hashed(new.b), _iso(now), _iso(now + self._lifetime_ms),
                ),
            )  # fmt: skip
            self._log(new.conversation, None, "conversation_created", "{}")
        return new

    def all(self) -> list[Conversation]:
        """Return all conversations, oldest first."""
        return self._conversations("1", ())

    def get(self, conversation: str) -> Conversation:
        """Return one conversation; raise NotFound."""
        self._require(conversation)
        return self._conversations("c.id=?", (conversation,))[0]

    def rotate_token(self, conversation: str, session: str) -> str:
        """Replace a session's token and return the new one; the old one ends at once."""
        token = secrets.token_hex(32)
        self._replace_token(conversation, session, _hashed(token), "token_rotated")
        return token

    def revoke_token(self, conversation: str, session: str) -> None:
        """End a session's token without a new one."""
        self._replace_token(
            conversation, session, _REVOKED + secrets.token_hex(32), "token_revoked"
        )

    def authenticate(self, conversation: str, token: str) -> str:
        """Return the session ('a' or 'b') the token proves, renewing its expiry while in use.

        Raises AccessDenied (audited) when it is wrong, malformed, expired or revoked, NotFound
        (audited) when there is no such conversation.
        """
        facts = self._facts(conversation)
        if facts is None:
            self._deny(None, "unknown conversation")
            raise _unknown(conversation)
        session, left = _proven(token, *facts[:2]), _left_ms(facts[2], self.clock())
        if session is None:
            self._deny(conversation, "wrong token")
            raise AccessDenied(
                f"the token does not open conversation {conversation}",
                "Use the one shown at its creation, or make a new one by rotating it.",
            )
        if left is not None and left <= 0:
            self._deny(conversation, "expired token")
            raise AccessDenied(
                f"the token for conversation {conversation} has expired",
                "Make a new one by rotating it.",
            )
        if left is not None and left < self._lifetime_ms / 2:
            self._renew_expiry(conversation)
        return session

    def renew_token(self, conversation: str, token: str) -> bool:
        """Renew a token on behalf of the home that keeps it, expired or not; tell whether it opens.

        A wrong or revoked one is left alone. Writes only when less than half of its life is left.
        Raises NotFound when there is no such conversation.
        """
        facts = self._facts(conversation)
        if facts is None:
            raise _unknown(conversation)
        if _proven(token, *facts[:2]) is None:
            return False
        left = _left_ms(facts[2], self.clock())
        if left is not None and left < self._lifetime_ms / 2:
            self._renew_expiry(conversation)
        return True

    def find_by_token(self, token: str) -> str | None:
        """Return the conversation that a token was made for, which proves nothing yet.

        By its digest, and so never for a token that is kept in the clear.
        """
        if not _TOKEN.fullmatch(token):
            return None
        digest = _hashed(token)
        rows = self._rows(
            "SELECT id FROM conversations WHERE session_a_token=? OR session_b_token=?",
            (digest, digest),
        )
        conversation: str | None = rows[0][0] if rows else None
        return conversation

    def audit_denial(self, conversation: str | None, why: str) -> None:
        """Audit a refusal: one line a minute for each conversation, or else each `why`, of which
        there must be few."""
        self._deny(conversation, why, key=conversation or why)

    def audit(
        self, conversation: str | None, session: str | None, action: str, details: str
    ) -> None:
        """Write a line into the audit log; secrets in it are redacted."""
        clean = storable(redact_message(details))
        try:
            json.loads(clean)
        except (ValueError, RecursionError):
            clean = json.dumps({"text": clean})
        with self._writing():
            self._log(conversation, session, action, clean)

    @property
    def _lifetime_ms(self) -> int:
        return round(self.limits.token_lifetime_s * 1000)

    def _facts(self, conversation: str) -> tuple[bytes | None, bytes | None, str | None] | None:
        """Return what is stored of both tokens, and their expiry; None for no conversation."""
        rows = self._rows(
            "SELECT CAST(session_a_token AS BLOB), CAST(session_b_token AS BLOB),"
            " CAST(expires_at AS BLOB) FROM conversations WHERE id=?",
            (storable(conversation),),
        )
        return (rows[0][0], rows[0][1], readable(rows[0][2])) if rows else None

    def _conversations(self, where: str, values: tuple[str, ...]) -> list[Conversation]:
        rows = self._rows(
            f"""SELECT CAST(id AS BLOB), CAST(session_a_role AS BLOB),
              CAST(session_b_role AS BLOB), CAST(created_at AS BLOB), CAST(expires_at AS BLOB),
              session_a_token GLOB 'revoked$*', session_b_token GLOB 'revoked$*',
              (SELECT shard FROM routes r WHERE r.conversation_id=c.id AND session='a'),
              (SELECT shard FROM routes r WHERE r.conversation_id=c.id AND session='b'),
              (SELECT count(*) FROM messages m WHERE m.conversation_id=c.id)
            FROM conversations c WHERE {where} ORDER BY created_at, rowid""",
            values,
        )
        return [
            Conversation(
                id=readable(number) or "",
                role_a=readable(role_a) or "",
                role_b=readable(role_b) or "",
                created_at=readable(created) or "",
                expires_at=readable(expires),
                revoked=[name for name, gone in (("a", gone_a), ("b", gone_b)) if gone],
                served={name: shard for name, shard in (("a", to_a), ("b", to_b)) if shard},
                messages=messages,
            )
            for (
                number,
                role_a,
                role_b,
                created,
                expires,
                gone_a,
                gone_b,
                to_a,
                to_b,
                messages,
            ) in rows
        ]

    def _replace_token(self, conversation: str, session: str, stored: str, action: str) -> None:
        other_session(session)
        with self._writing():
            self._require(conversation)
            self._rows(
                f"UPDATE conversations SET session_{session}_token=?, expires_at=? WHERE id=?",
                (stored, _iso(self.clock() + self._lifetime_ms), conversation),
            )
            self._log(conversation, session, action, "{}")

    def _renew_expiry(self, conversation: str) -> None:
        with self._writing(durable=False):
            self._rows(
                "UPDATE conversations SET expires_at=? WHERE id=?",
                (_iso(self.clock() + self._lifetime_ms), conversation),
            )

    def _deny(self, conversation: str | None, why: str, key: str | None = None) -> None:
        """Audit a failed authentication: one line a minute and conversation, with their number."""
        key, now = key or conversation or "", self.clock()
        recent = (
            "SELECT audit_id,count FROM denials WHERE conversation_id=? AND ?-since BETWEEN 0 AND ?"
        )
        values = (key, now, _DENIAL_SPAN_MS)
        seen = self._rows(recent, values)
        if seen and seen[0][1] >= _DENIALS:
            return
        with self._writing(durable=False):
            seen = self._rows(recent, values)
            if not seen:
                line = self._log(conversation, None, "access_denied", _denied(why, 1))
                self._rows("REPLACE INTO denials VALUES(?,?,?,1)", (key, line, now))
                return
            line, count = seen[0]
            self._rows("UPDATE denials SET count=? WHERE conversation_id=?", (count + 1, key))
            self._rows("UPDATE audit_log SET details=? WHERE id=?", (_denied(why, count + 1), line))


def _unknown(conversation: str) -> NotFound:
    return NotFound(
        f"there is no conversation {conversation!r}", "List them with: autopoll conversations"
    )


def _denied(why: str, count: int) -> str:
    return json.dumps({"why": why, "count": count, "or_more": count >= _DENIALS})


def _hashed(token: str) -> str:
    return _HASHED + hashlib.sha256(token.encode()).hexdigest()


def _proven(token: str, stored_a: bytes | None, stored_b: bytes | None) -> str | None:
    """Return the session whose token it is, if any.

    Compares in constant time, and as bytes, because a str that is not ASCII raises; and always with
    both, so that the time taken does not tell them apart.
    """
    if not _TOKEN.fullmatch(token):
        return None
    clear, hashed = token.encode(), _hashed(token).encode()
    # What is neither form opens nothing.
    a, b = (
        stored is not None
        and hmac.compare_digest(clear if _CLEAR.fullmatch(stored) else hashed, stored)
        for stored in (stored_a, stored_b)
    )
    return "a" if a else "b" if b else None


def _iso(ms: int) -> str:
    """Naive, because a zone in expires_at makes a legacy program's comparison raise."""
    return datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None).isoformat()


def _left_ms(expires: str | None, now: int) -> float | None:
    """Return the time left, None for a token without end; what cannot be read has ended."""
    if expires is None:
        return None
    try:
        moment = datetime.fromisoformat(expires)
    except ValueError:
        return 0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000 - now
