"""Which shard serves which session."""

from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.rows import other_session, require_conversation


class Routes:
    """A row for each session that a shard serves."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def serve(self, conversation: str, session: str, shard: str) -> None:
        other_session(session)
        values = {"c": conversation, "s": session, "shard": shard}
        with self._db.writing():
            self._db.lock_conversations([conversation])
            require_conversation(self._db, conversation)
            # Not changed, because a new route has a new number, by which a poller notices it.
            self._db.rows("DELETE FROM routes WHERE conversation_id=:c AND session=:s", values)
            self._db.rows(
                "INSERT INTO routes(conversation_id,session,shard) VALUES(:c,:s,:shard)", values
            )
            for state in ("queued", "ready"):  # one by one, because each has an index of its own
                self._db.rows(
                    "UPDATE deliveries SET shard=:shard WHERE conversation_id=:c AND to_session=:s"
                    f" AND state='{state}'",
                    values,
                )

    def unserve(self, conversation: str, session: str) -> None:
        with self._db.writing():
            stopped = self._db.rows(
                "DELETE FROM routes WHERE conversation_id=? AND session=? RETURNING id",
                (conversation, session),
            )
            if not stopped:  # the route of a deleted conversation can be stopped
                require_conversation(self._db, conversation)

    def routes(self) -> dict[tuple[str, str], str]:
        rows = self._db.rows("SELECT conversation_id, session, shard FROM routes ORDER BY id")
        return {(conversation, session): shard for conversation, session, shard in rows}

    def shard_of(self, conversation: str, session: str) -> str | None:
        rows = self._db.rows(
            "SELECT shard FROM routes WHERE conversation_id=? AND session=?",
            (conversation, session),
        )
        shard: str | None = rows[0][0] if rows else None
        return shard
