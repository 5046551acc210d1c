"""The audit log, and how many refusals it takes."""

import json

from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.rows import AuditLine, insert_audit_line, insert_audit_lines
from autopoll.redact.redact import redact_message
from autopoll.text import storable

# Beyond this many a minute and conversation refusals write nothing, so that a client without a
# token can neither fill the disk nor keep the write lock busy.
_DENIALS = 10
_DENIAL_SPAN_MS = 60_000
_BEGIN_DENIAL = """INSERT INTO denials(conversation_id,audit_id,since,count) VALUES(?,?,?,1)
  ON CONFLICT(conversation_id) DO UPDATE SET
  audit_id=excluded.audit_id, since=excluded.since, count=excluded.count"""


class AuditLog:
    """Lines about what a session did; refusals of one minute share a line."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def audit(
        self, conversation: str | None, session: str | None, action: str, details: str
    ) -> None:
        clean = storable(redact_message(details))
        try:
            json.loads(clean)
        except (ValueError, RecursionError):
            clean = json.dumps({"text": clean})
        with self._db.writing():
            insert_audit_lines(self._db, [AuditLine(conversation, session, action, clean)])

    def audit_denial(self, conversation: str | None, why: str) -> None:
        self.deny(conversation, why, key=conversation or why)

    def deny(self, conversation: str | None, why: str, *, key: str) -> None:
        """Write one line a minute for each `key`, with the number of refusals in it."""
        now = self._db.clock()
        recent = (
            "SELECT audit_id,count FROM denials WHERE conversation_id=? AND ?-since BETWEEN 0 AND ?"
        )
        values = (key, now, _DENIAL_SPAN_MS)
        seen = self._db.rows(recent, values)
        if seen and seen[0][1] >= _DENIALS:
            return
        with self._db.writing(durable=False):
            seen = self._db.rows(recent, values)
            if not seen:
                denied = AuditLine(conversation, None, "access_denied", _denied(why, 1))
                if (added := insert_audit_line(self._db, denied)) is not None:
                    self._db.rows(_BEGIN_DENIAL, (key, added, now))
                return
            line, count = seen[0]
            self._db.rows("UPDATE denials SET count=? WHERE conversation_id=?", (count + 1, key))
            self._db.rows(
                "UPDATE audit_log SET details=? WHERE id=?", (_denied(why, count + 1), line)
            )


def _denied(why: str, count: int) -> str:
    return json.dumps({"why": why, "count": count, "or_more": count >= _DENIALS})
