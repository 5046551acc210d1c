"""How much a session may send."""

from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.rows import require_conversation
from autopoll.errors import RateLimited, UsageError

_SLACK_MS = 5_000  # a transaction waits less for a lock: it has the time of its beginning


class RateLimiter:
    """The rate limit of each session: GCRA in one row, shared by all processes."""

    def __init__(self, db: Database, limits: BridgeLimits) -> None:
        self._db = db
        self._limits = limits

    def spend(self, conversation: str, session: str, count: int) -> None:
        """Charge so many messages to a session, within the transaction that stores them.

        Raises NotFound, RateLimited, and UsageError when `count` is more than the limit ever
        allows.
        """
        limits = self._limits
        if count > limits.rate_burst:
            raise UsageError(
                f"{count} at once are too many, the limit is {limits.rate_burst}",
                "Send fewer at a time.",
            )
        now = self._db.clock()
        window = limits.rate_burst * 1000 / limits.rate_per_s
        values = {
            "c": conversation, "s": session, "now": now, "window": window, "slack": _SLACK_MS,
            "cost": count * 1000 / limits.rate_per_s,
        }  # fmt: skip
        # A row can be ahead of the clock by one window at most, and by the wait for its lock;
        # beyond that the clock was set back.
        spent = self._db.rows(
            "INSERT INTO budgets SELECT id,:s,:now+:cost FROM conversations WHERE id=:c"
            " ON CONFLICT(conversation_id,session) DO UPDATE SET"
            " spent_until=:cost+CASE WHEN budgets.spent_until BETWEEN :now AND :now+:window"
            " THEN budgets.spent_until ELSE :now END"
            " WHERE budgets.spent_until+:cost<=:now+:window"
            " OR budgets.spent_until>:now+:window+:slack"
            " RETURNING 1",
            values,
        )
        if spent:
            return
        require_conversation(self._db, conversation)
        (until,) = self._db.rows(
            "SELECT spent_until FROM budgets WHERE conversation_id=:c AND session=:s", values
        )
        wait = int(until[0] + values["cost"] - window - now) + 1
        raise RateLimited(
            f"session {session} of {conversation} sends too fast",
            f"Try again in {wait} ms.",
            wait_ms=wait,
        )
