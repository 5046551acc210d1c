"""Rows that more than one part writes, and text as foreign programs may have left it."""

from autopoll.bridge.sqlite.connection import Store
from autopoll.clock import utc_iso
from autopoll.errors import NotFound, UsageError


class Tables(Store):
    """The legacy tables, row by row; the caller holds the transaction."""

    def _require(self, conversation: str) -> None:
        if not self._rows("SELECT 1 FROM conversations WHERE id=?", (conversation,)):
            raise NotFound(
                f"there is no conversation {conversation!r}",
                "List them with: autopoll conversations",
            )

    def _insert(
        self, conversation: str, sender: str, recipient: str, text: str, metadata: str | None
    ) -> int:
        """Add an unread message, as a legacy writer does, and return its id."""
        self._rows(
            "INSERT INTO messages(conversation_id,from_session,to_session,message,metadata,"
            "timestamp,read) VALUES(?,?,?,?,?,?,0)",
            (conversation, sender, recipient, text, metadata, utc_iso()),
        )
        return self._db.last_insert_rowid()

    def _mark_read(self, message_id: int) -> bool:
        """Take a message from all other readers; tell whether it was still there to take."""
        return bool(
            self._rows(
                "UPDATE messages SET read=1 WHERE id=? AND read=0 RETURNING id", (message_id,)
            )
        )

    def _log(self, conversation: str | None, session: str | None, action: str, details: str) -> int:
        """Add a line to the audit log, whose readers expect JSON, and return its id."""
        self._rows(
            "INSERT INTO audit_log(conversation_id,session_id,action,details,timestamp)"
            " VALUES(?,?,?,?,?)",
            (conversation, session, action, details, utc_iso()),
        )
        return self._db.last_insert_rowid()


def other_session(session: str) -> str:
    """Return the partner of session 'a' or 'b'; raise UsageError for any other name."""
    if session not in ("a", "b"):
        raise UsageError(
            f"there is no session {session!r}", "A conversation's sessions are a and b."
        )
    return "b" if session == "a" else "a"


def readable(value: bytes | None) -> str | None:
    """Return stored bytes as text; what is not UTF-8 becomes U+FFFD."""
    return None if value is None else value.decode("utf-8", "replace")
