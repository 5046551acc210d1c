"""The keys of senders: repeating a key, not knowing what came of it, sends nothing new."""

from autopoll.bridge.records import IdempotencyKey
from autopoll.bridge.sql.database import Database
from autopoll.errors import KeyReused

KEPT_MS = 24 * 3600 * 1000  # how long a key is remembered
_REMEMBER = """INSERT INTO keys(scope,name,digest,message_id,made_at) VALUES(?,?,?,?,?)
  ON CONFLICT(scope,name) DO UPDATE SET
  digest=excluded.digest, message_id=excluded.message_id, made_at=excluded.made_at"""
_FORGOTTEN = 100  # old keys that one new key clears away, so that no single send pays for a day


class IdempotencyKeys:
    """A row for each key and the message it stands for; used within the sender's transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def message_id(self, key: IdempotencyKey, now: int) -> int | None:
        """Return the message sent under a key, None when there is none; raise KeyReused."""
        self._db.lock_key(f"{key.scope} {key.name}")
        known = self._db.rows(
            "SELECT digest, message_id FROM keys WHERE scope=? AND name=? AND made_at>?",
            (key.scope, key.name, now - KEPT_MS),
        )
        if not known:
            return None
        digest, message_id = known[0]
        if digest != key.digest:
            raise KeyReused(
                f"the key {key.name!r} was used for another message",
                "Use a new key for a new message; the same key repeats the same message.",
            )
        number: int = message_id
        return number

    def remember(self, key: IdempotencyKey, message_id: int, now: int) -> None:
        """Keep a key, and forget some of those that are old."""
        self._db.rows(
            "DELETE FROM keys WHERE id IN (SELECT id FROM keys WHERE made_at<=?"
            f" ORDER BY made_at LIMIT ?{self._db.dialect.unlocked})",
            (now - KEPT_MS, _FORGOTTEN),
        )
        self._db.rows(
            _REMEMBER,
            (key.scope, key.name, key.digest, message_id, now),
        )
