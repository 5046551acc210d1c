"""Conversations and the tokens of their sessions."""

import secrets

from autopoll.bridge.records import BridgeLimits, Conversation, Tokens
from autopoll.bridge.sql import tokens
from autopoll.bridge.sql.audit_log import AuditLog
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.presence import SessionStatuses
from autopoll.bridge.sql.routes import Routes
from autopoll.bridge.sql.rows import (
    AuditLine,
    insert_audit_lines,
    other_session,
    readable,
    require_conversation,
    stored,
    unknown_conversation,
)
from autopoll.errors import AccessDenied
from autopoll.text import storable

_LISTED = """SELECT {},
  substr(session_a_token,1,8)='revoked$', substr(session_b_token,1,8)='revoked$',
  (SELECT shard FROM routes r WHERE r.conversation_id=c.id AND session='a'),
  (SELECT shard FROM routes r WHERE r.conversation_id=c.id AND session='b'),
  (SELECT count(*) FROM messages m WHERE m.conversation_id=c.id)
  FROM conversations c"""


class SqlConversations:
    """The ConversationStore: tokens here, the rest by the parts that keep it."""

    def __init__(self, db: Database, limits: BridgeLimits) -> None:
        self._db = db
        self._lifetime_ms = round(limits.token_lifetime_s * 1000)
        self._listed = _LISTED.format(
            stored(db.dialect, "id", "session_a_role", "session_b_role", "created_at", "expires_at")
        )
        self._tokens = stored(db.dialect, "session_a_token", "session_b_token", "expires_at")
        self._log = AuditLog(db)
        routes, statuses = Routes(db), SessionStatuses(db, limits)
        self.audit, self.audit_denial = self._log.audit, self._log.audit_denial
        self.serve, self.unserve = routes.serve, routes.unserve
        self.routes, self.shard_of = routes.routes, routes.shard_of
        self.set_status, self.presence = statuses.set_status, statuses.presence
        self.announce = statuses.announce

    def create(self, role_a: str, role_b: str) -> Tokens:
        new = Tokens(
            conversation=f"conv_{secrets.token_hex(8)}", a=tokens.new_token(), b=tokens.new_token()
        )
        now = self._db.clock()
        with self._db.writing():
            self._db.rows(
                "INSERT INTO conversations(id,session_a_role,session_b_role,session_a_token,"
                "session_b_token,created_at,expires_at) VALUES(?,?,?,?,?,?,?)",
                (
                    new.conversation, storable(role_a), storable(role_b), tokens.hashed(new.a),
                    tokens.hashed(new.b), tokens.iso_naive(now), self._expiry(now),
                ),
            )  # fmt: skip
            created = AuditLine(new.conversation, None, "conversation_created", "{}")
            insert_audit_lines(self._db, [created])
        return new

    def all(self) -> list[Conversation]:
        order = f"ORDER BY c.created_at, {self._db.dialect.created}"
        return [_conversation(*row) for row in self._db.rows(f"{self._listed} {order}")]

    def get(self, conversation: str) -> Conversation:
        rows = self._db.rows(f"{self._listed} WHERE c.id=?", (conversation,))
        if not rows:
            raise unknown_conversation(conversation)
        return _conversation(*rows[0])

    def rotate_token(self, conversation: str, session: str) -> str:
        token = tokens.new_token()
        self._replace_token(conversation, session, tokens.hashed(token), "token_rotated")
        return token

    def revoke_token(self, conversation: str, session: str) -> None:
        self._replace_token(conversation, session, tokens.revoked(), "token_revoked")

    def authenticate(self, conversation: str, token: str) -> str:
        stored = self._stored(conversation)
        if stored is None:
            # Under one key for all, because anybody can make up names.
            self._log.deny(None, "unknown conversation", key="")
            raise unknown_conversation(conversation)
        session = tokens.proven_session(token, *stored[:2])
        left_ms = tokens.left_ms(stored[2], self._db.clock())
        if session is None:
            self._log.deny(conversation, "wrong token", key=conversation)
            raise AccessDenied(
                f"the token does not open conversation {conversation}",
                "Use the one shown at its creation, or make a new one by rotating it.",
            )
        if left_ms is not None and left_ms <= 0:
            self._log.deny(conversation, "expired token", key=conversation)
            raise AccessDenied(
                f"the token for conversation {conversation} has expired",
                "Make a new one by rotating it.",
            )
        self._renew_expiry(conversation, left_ms)
        return session

    def renew_token(self, conversation: str, token: str) -> bool:
        stored = self._stored(conversation)
        if stored is None:
            raise unknown_conversation(conversation)
        if tokens.proven_session(token, *stored[:2]) is None:
            return False
        self._renew_expiry(conversation, tokens.left_ms(stored[2], self._db.clock()))
        return True

    def find_by_token(self, token: str) -> str | None:
        # By its digest, and so never a token that is stored in the clear.
        if not tokens.is_well_formed(token):
            return None
        digest = tokens.hashed(token)
        rows = self._db.rows(
            "SELECT id FROM conversations WHERE session_a_token=? OR session_b_token=?",
            (digest, digest),
        )
        conversation: str | None = rows[0][0] if rows else None
        return conversation

    def _stored(self, conversation: str) -> tuple[bytes | None, bytes | None, str | None] | None:
        """Return what is stored of both tokens, and their expiry; None for no conversation."""
        rows = self._db.rows(
            f"SELECT {self._tokens} FROM conversations WHERE id=?", (storable(conversation),)
        )
        if not rows:
            return None
        a, b, expires = rows[0]
        return _bytes(a), _bytes(b), readable(expires)

    def _replace_token(self, conversation: str, session: str, stored: str, action: str) -> None:
        other_session(session)
        with self._db.writing():
            require_conversation(self._db, conversation)
            self._db.rows(
                f"UPDATE conversations SET session_{session}_token=?, expires_at=? WHERE id=?",
                (stored, self._expiry(self._db.clock()), conversation),
            )
            insert_audit_lines(self._db, [AuditLine(conversation, session, action, "{}")])

    def _renew_expiry(self, conversation: str, left_ms: float | None) -> None:
        """Give the tokens their whole lifetime again when less than half of it is left."""
        if left_ms is None or left_ms >= self._lifetime_ms / 2:
            return
        with self._db.writing(durable=False):
            self._db.rows(
                "UPDATE conversations SET expires_at=? WHERE id=?",
                (self._expiry(self._db.clock()), conversation),
            )

    def _expiry(self, now: int) -> str:
        return tokens.iso_naive(now + self._lifetime_ms)


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _conversation(
    conversation: bytes | None,
    role_a: bytes | None,
    role_b: bytes | None,
    created: bytes | None,
    expires: bytes | None,
    revoked_a: int | None,
    revoked_b: int | None,
    shard_a: str | None,
    shard_b: str | None,
    messages: int,
) -> Conversation:
    return Conversation(
        id=readable(conversation) or "",
        role_a=readable(role_a) or "",
        role_b=readable(role_b) or "",
        created_at=readable(created) or "",
        expires_at=readable(expires),
        revoked=[name for name, revoked in (("a", revoked_a), ("b", revoked_b)) if revoked],
        served={name: shard for name, shard in (("a", shard_a), ("b", shard_b)) if shard},
        messages=messages,
    )
