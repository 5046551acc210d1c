"""Numbers and dead letters, for operators."""

import json

from autopoll.bridge.records import Backlog, BridgeLimits, DeadLetter, Finished, RecentAnswer
from autopoll.bridge.sql.audit_trail import AuditTrail
from autopoll.bridge.sql.costs import Costs
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.lanes import CANARY_LANES
from autopoll.bridge.sql.pollers import Pollers
from autopoll.bridge.sql.question_histories import QuestionHistories
from autopoll.bridge.sql.question_lists import QuestionLists
from autopoll.bridge.sql.question_queue import Queue
from autopoll.bridge.sql.rows import readable, stored
from autopoll.clock import parse_utc_ms, utc_iso
from autopoll.errors import NotFound

# Never negative: the clock may have been set back.
_TIME = """CASE WHEN d.settled_at>d.enrolled_at
  THEN d.settled_at-d.enrolled_at ELSE 0 END"""
_STATES = ("queued", "ready", "leased", "done", "dead")


class SqlOverview:
    """The Overview."""

    def __init__(self, db: Database, limits: BridgeLimits, costs: Costs) -> None:
        self._db = db
        self._limits = limits
        self.spent = costs.spent
        self.homes = Pollers(db).homes
        self.history = QuestionHistories(db).read
        self.queue = Queue(db).page
        self.questions = QuestionLists(db).page
        trail = AuditTrail(db)
        self.audit_entries, self.newest_audit = trail.entries, trail.newest

    def counts(self) -> dict[str, int]:
        # The done are counted by their answers, which lie closer together.
        rows = self._db.rows(
            "SELECT 'queued', count(*) FROM deliveries WHERE state='queued' UNION ALL"
            " SELECT 'ready', count(*) FROM deliveries WHERE state='ready' UNION ALL"
            " SELECT 'leased', count(*) FROM deliveries WHERE state='leased' UNION ALL"
            " SELECT 'done', (SELECT count(*) FROM answers)"
            " - (SELECT count(*) FROM deliveries WHERE state='dead') UNION ALL"
            " SELECT 'dead', count(*) FROM deliveries WHERE state='dead' AND dismissed_at IS NULL"
        )
        return {**dict.fromkeys(_STATES, 0), **dict(rows)}

    def in_flight(self) -> dict[str, int]:
        return dict(
            self._db.rows(
                "SELECT shard, count(*) FROM deliveries WHERE state='leased' GROUP BY shard"
            )
        )

    def waiting(self) -> dict[str, int]:
        return dict(
            self._db.rows(
                "SELECT shard, count(*) FROM deliveries"
                " WHERE state IN ('queued', 'ready', 'leased') GROUP BY shard"
            )
        )

    def latencies_ms(self, last: int = 1000) -> list[int]:
        return [each.latency_ms for each in self.recent_answers(last)]

    def recent_answers(self, last: int = 1000) -> list[RecentAnswer]:
        rows = self._db.rows(
            f"SELECT d.shard, d.settled_at, {_TIME} FROM answers a {self._db.dialect.ordered_join}"
            " deliveries d ON d.message_id=a.query_id WHERE d.state='done'"
            f" AND d.lane NOT LIKE '{CANARY_LANES}'"
            " ORDER BY a.query_id DESC LIMIT ?",
            (last,),
        )
        return [
            RecentAnswer(shard=shard, settled_at=settled, latency_ms=span)
            for shard, settled, span in rows
        ]

    def backlog(self) -> list[Backlog]:
        # One by one, because each state has an index of its own.
        waiting = " UNION ALL ".join(
            f"SELECT shard, '{state}', count(*), min(enrolled_at) FROM deliveries"
            f" WHERE state='{state}' GROUP BY shard"
            for state in _STATES[:3]
        )
        found = [
            Backlog(shard=shard, state=state, count=count, oldest_at=oldest)
            for shard, state, count, oldest in self._db.rows(waiting)
        ]
        sent = self._db.rows(
            f"SELECT r.shard, count(*), {stored(self._db.dialect, 'min(m.timestamp)')}"
            " FROM routes r JOIN messages m"
            " ON m.conversation_id=r.conversation_id AND m.to_session=r.session AND m.read=0"
            " GROUP BY r.shard"
        )
        return found + [
            Backlog(
                shard=shard,
                state="sent",
                count=count,
                oldest_at=parse_utc_ms(readable(oldest)) or self._db.clock(),
            )
            for shard, count, oldest in sent
        ]

    def finished(self, after: int, limit: int) -> list[Finished]:
        words, decided = self._db.dialect, self._db.decided("audit_log")
        # By the audit log, which alone is in the order of settling and numbered by it.
        rows = self._db.rows(
            f"SELECT l.id, d.shard, d.state, {_TIME}, d.attempts FROM audit_log l"
            f" {words.ordered_join} deliveries d"
            f" ON d.message_id={words.json_integer.format('l.details', 'message_id')}"
            " WHERE l.id>? AND l.action='query_answered' AND d.settled_at IS NOT NULL"
            " AND l.id<=? ORDER BY l.id LIMIT ?",
            (after, decided, limit),
        )
        return [
            Finished(number=number, shard=shard, state=state, latency_ms=span, attempts=attempts)
            for number, shard, state, span, attempts in rows
        ]

    def dead_letters(
        self, *, message_id: int | None = None, text_bytes: int | None = None
    ) -> list[DeadLetter]:
        text = stored(self._db.dialect, "m.message")
        rows = self._db.rows(
            "SELECT d.message_id, d.conversation_id, d.shard, d.attempts, d.last_error,"
            f" d.settled_at, substr({text},1,?) FROM deliveries d LEFT JOIN"
            " messages m ON m.id=d.message_id WHERE d.state='dead' AND d.dismissed_at IS NULL"
            " AND d.message_id=coalesce(?,d.message_id) ORDER BY d.message_id",
            (text_bytes or self._limits.max_message, message_id),
        )
        return [
            DeadLetter(
                message_id=message_id,
                conversation=conversation,
                shard=shard,
                attempts=attempts,
                last_error=error,
                settled_at=settled,
                text=readable(text) or "",
            )
            for message_id, conversation, shard, attempts, error, settled, text in rows
        ]

    def retry_dead(self, message_id: int) -> int:
        facts = json.dumps({"lane": "own", "retry_of": message_id})
        with self._db.writing():
            self._dismiss(message_id)
            # Copied inside the store, so that it is the same text byte for byte.
            rows = self._db.rows(
                "INSERT INTO messages(conversation_id,from_session,to_session,message,metadata,"
                "timestamp,read) SELECT conversation_id,from_session,to_session,message,?,?,0"
                " FROM messages WHERE id=? RETURNING id",
                (facts, utc_iso(), message_id),
            )
            if not rows:
                raise NotFound(f"the message {message_id} was deleted", "Drop the dead letter.")
        number: int = rows[0][0]
        return number

    def drop_dead(self, message_id: int) -> None:
        with self._db.writing():
            self._dismiss(message_id)

    def _dismiss(self, message_id: int) -> None:
        dismissed = self._db.rows(
            "UPDATE deliveries SET dismissed_at=? WHERE message_id=? AND state='dead'"
            " AND dismissed_at IS NULL RETURNING message_id",
            (self._db.clock(), message_id),
        )
        if not dismissed:
            raise NotFound(
                f"there is no dead letter {message_id}", "List them with: autopoll dead list"
            )
