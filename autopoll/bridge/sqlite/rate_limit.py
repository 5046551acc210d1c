"""How much a session may send."""

from autopoll.bridge.sqlite.rows import Tables
from autopoll.errors import RateLimited, UsageError


class Budget(Tables):
    """The rate budget of a session: GCRA in one row, shared by all processes."""

    def _spend(self, conversation: str, session: str, count: int) -> None:
        """Take from the budget, within the transaction that spends it.

        Raises NotFound, RateLimited, and UsageError when `count` is more than the budget ever
        holds.
        """
        if count > self.limits.rate_burst:
            raise UsageError(
                f"{count} at once are too many, the limit is {self.limits.rate_burst}",
                "Send fewer at a time.",
            )
        now = self.clock()
        window = self.limits.rate_burst * 1000 / self.limits.rate_per_s
        values = {
            "c": conversation, "s": session, "now": now, "window": window,
            "cost": count * 1000 / self.limits.rate_per_s,
        }  # fmt: skip
        # A budget can be overdrawn by one window at most; beyond that the clock was set back.
        spent = self._rows(
            "INSERT INTO budgets SELECT id,:s,:now+:cost FROM conversations WHERE id=:c"
            " ON CONFLICT DO UPDATE SET"
            " spent_until=:cost+CASE WHEN spent_until>:now+:window THEN :now"
            " ELSE max(spent_until,:now) END"
            " WHERE spent_until+:cost<=:now+:window OR spent_until>:now+:window RETURNING 1",
            values,
        )
        if spent:
            return
        self._require(conversation)
        (until,) = self._rows(
            "SELECT spent_until FROM budgets WHERE conversation_id=:c AND session=:s", values
        )
        wait = int(until[0] + values["cost"] - window - now) + 1
        raise RateLimited(
            f"session {session} of {conversation} sends too fast",
            f"Try again in {wait} ms.",
            wait_ms=wait,
        )
