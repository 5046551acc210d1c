"""The status of each session, and whether the session can be counted on to be there.

By the clock of the store: those of several hosts need not agree.
"""

from autopoll.bridge.records import BridgeLimits, Presence
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.rows import other_session, readable, require_conversation, stored
from autopoll.clock import parse_utc_ms, utc_iso_of
from autopoll.redact.redact import redact
from autopoll.text import storable

ALIVE_S = 120  # how long legacy partners believe a sign of life
ANNOUNCED_S = 45  # how long an announcement is left as it is


class SessionStatuses:
    """A row for each session that ever gave a status or was announced."""

    def __init__(self, db: Database, limits: BridgeLimits) -> None:
        self._db = db
        self._limits = limits

    def set_status(self, conversation: str, session: str, status: str) -> None:
        other_session(session)
        shown = storable(redact(status) if self._limits.redact else status)
        with self._db.writing(durable=False):  # it is void after a power cut anyway
            require_conversation(self._db, conversation)
            self._db.rows(
                "INSERT INTO session_status(conversation_id,session_id,status,last_heartbeat)"
                " VALUES(?,?,?,?) ON CONFLICT(conversation_id,session_id)"
                " DO UPDATE SET status=excluded.status, last_heartbeat=excluded.last_heartbeat",
                (conversation, session, shown, utc_iso_of(self._db.clock())),
            )

    def presence(self, conversation: str, session: str) -> Presence:
        require_conversation(self._db, conversation)
        rows = self._db.rows(
            f"SELECT {stored(self._db.dialect, 'status', 'last_heartbeat')} FROM session_status"
            " WHERE conversation_id=? AND session_id=?",
            (conversation, session),
        )
        if not rows:
            return Presence(session=session, status="unknown", at=None, age_s=None, alive=False)
        status, at = readable(rows[0][0]) or "", readable(rows[0][1])
        age = self._age_s(at)
        return Presence(
            session=session,
            status=status,
            at=at,
            age_s=age,
            alive=age is not None and age < ALIVE_S,
        )

    def announce(self) -> None:
        due = (
            " FROM routes r JOIN conversations c ON c.id=r.conversation_id"
            " LEFT JOIN session_status s ON s.conversation_id=r.conversation_id"
            " AND s.session_id=r.session"
            " WHERE s.last_heartbeat IS NULL OR s.last_heartbeat NOT BETWEEN :stale AND :now"
        )
        now = self._db.clock()
        values = {"now": utc_iso_of(now), "stale": utc_iso_of(now - ANNOUNCED_S * 1000)}
        if not self._db.rows(f"SELECT 1{due} LIMIT 1", values):
            return
        with self._db.writing(durable=False):
            self._db.rows(
                "INSERT INTO session_status(conversation_id,session_id,status,last_heartbeat)"
                f" SELECT r.conversation_id, r.session, 'active', CAST(:now AS TEXT){due}"
                " ORDER BY r.conversation_id, r.session"  # as others lock them, too
                " ON CONFLICT(conversation_id,session_id)"
                " DO UPDATE SET status=excluded.status, last_heartbeat=excluded.last_heartbeat",
                values,
            )

    def _age_s(self, at: str | None) -> float | None:
        """Return the age of a sign of life, in seconds.

        None when it cannot be read, 0 when it is yet to come.
        """
        moment = parse_utc_ms(at)
        return None if moment is None else max(0.0, (self._db.clock() - moment) / 1000)
