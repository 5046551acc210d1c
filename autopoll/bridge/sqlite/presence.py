"""What sessions say of themselves, and whether they can be counted on to be there."""

from datetime import UTC, datetime

from autopoll.bridge.records import Presence
from autopoll.bridge.sqlite.rows import Tables, other_session, readable
from autopoll.clock import utc_iso, utc_now
from autopoll.redact.redact import redact
from autopoll.text import storable

ALIVE_S = 120  # how long legacy partners believe a sign of life


class Presences(Tables):
    """The statuses, a row for each session that ever gave one."""

    def set_status(self, conversation: str, session: str, status: str) -> None:
        """Note what a session is doing, which is a sign of life too; raise NotFound."""
        other_session(session)
        shown = storable(redact(status) if self.limits.redact else status)
        with self._writing(durable=False):  # it is void after a power cut anyway
            self._require(conversation)
            self._rows(
                "INSERT INTO session_status(conversation_id,session_id,status,last_heartbeat)"
                " VALUES(?,?,?,?) ON CONFLICT(conversation_id,session_id)"
                " DO UPDATE SET status=excluded.status, last_heartbeat=excluded.last_heartbeat",
                (conversation, session, shown, utc_iso()),
            )

    def presence(self, conversation: str, session: str) -> Presence:
        """Return what a session last said of itself; raise NotFound for the conversation."""
        self._require(conversation)
        rows = self._rows(
            "SELECT CAST(status AS BLOB), CAST(last_heartbeat AS BLOB) FROM session_status"
            " WHERE conversation_id=? AND session_id=?",
            (conversation, session),
        )
        if not rows:
            return Presence(session=session, status="unknown", at=None, age_s=None, alive=False)
        status, at = readable(rows[0][0]) or "", readable(rows[0][1])
        age = _age_s(at)
        return Presence(
            session=session,
            status=status,
            at=at,
            age_s=age,
            alive=age is not None and age < ALIVE_S,
        )


def _age_s(at: str | None) -> float | None:
    """Return how long ago it was; None for what cannot be read; a clock set back makes it 0."""
    try:
        moment = datetime.fromisoformat(at or "")
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, round((utc_now() - aware).total_seconds(), 3))
