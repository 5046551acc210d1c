"""Messages sent under a key: to repeat the key, not knowing what came of it, sends nothing new."""

from autopoll.bridge.records import IdempotencyKey, SentMessage
from autopoll.bridge.sqlite.message_store import Mail
from autopoll.bridge.sqlite.rows import other_session
from autopoll.errors import KeyReused

KEPT_MS = 24 * 3600 * 1000  # how long a key is remembered
_FORGOTTEN = 100  # old keys that one new key clears away, so that no single send pays for a day


class Keys(Mail):
    """Keys and the messages that were sent under them."""

    def send_once(
        self, conversation: str, session: str, text: str, metadata: str | None, key: IdempotencyKey
    ) -> SentMessage:
        """Store a message and its key in one commit; under a known key, return what it stands for.

        Raises as `send` does, and KeyReused when the key stands for something else.
        """
        row = (self._checked(text), self._checked_metadata(metadata))
        partner = other_session(session)
        with self._writing():
            now = self.clock()
            known = self._rows(
                "SELECT digest, message_id FROM keys WHERE scope=? AND name=? AND made_at>?",
                (key.scope, key.name, now - KEPT_MS),
            )
            if known:
                digest, message_id = known[0]
                if digest != key.digest:
                    raise KeyReused(
                        f"the key {key.name!r} was used for another message",
                        "Use a new key for a new message; the same key repeats the same message.",
                    )
                return SentMessage(id=message_id, fresh=False)
            self._require(conversation)
            self._spend(conversation, session, 1)
            message_id = self._insert(conversation, session, partner, *row)
            self._rows(
                "DELETE FROM keys WHERE id IN"
                " (SELECT id FROM keys WHERE made_at<=? ORDER BY made_at LIMIT ?)",
                (now - KEPT_MS, _FORGOTTEN),
            )
            self._rows(
                "REPLACE INTO keys(scope,name,digest,message_id,made_at) VALUES(?,?,?,?,?)",
                (key.scope, key.name, key.digest, message_id, now),
            )
            return SentMessage(id=message_id, fresh=True)
