"""What the shards cost, by day."""

from collections.abc import Iterable

from autopoll.bridge.records import Answered, Outcome, Settled, Spent
from autopoll.bridge.sql.database import Database
from autopoll.clock import utc_day


class Costs:
    """A row for each shard and UTC day on which it has cost something."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def spent(self, day: str | None = None) -> dict[str, Spent]:
        rows = self._db.rows(
            "SELECT shard, CAST(sum(input_tokens) AS BIGINT), CAST(sum(output_tokens) AS BIGINT),"
            " CAST(sum(cached_tokens) AS BIGINT), sum(cost_usd), CAST(sum(answers) AS BIGINT)"
            " FROM usage WHERE day=coalesce(?,day) GROUP BY shard",
            (day,),
        )
        return {
            shard: Spent(
                input_tokens=tokens_in,
                output_tokens=tokens_out,
                cached_tokens=cached,
                cost_usd=cost,
                answers=answers,
            )
            for shard, tokens_in, tokens_out, cached, cost, answers in rows
        }

    def charge(self, settled: Iterable[tuple[Outcome, Settled]], now: int) -> None:
        """Add what outcomes have cost to their shards, within the transaction that settles them."""
        for outcome, became in settled:
            if (usage := outcome.usage) is None:
                continue
            answers = int(isinstance(outcome, Answered) and became.state == "done")
            self._db.rows(
                "INSERT INTO usage SELECT CAST(:day AS TEXT), shard, :input, :output, :cached,"
                " CAST(:cost AS DOUBLE PRECISION), :answers"
                " FROM deliveries WHERE message_id=:id ON CONFLICT(day,shard) DO UPDATE SET"
                " input_tokens=usage.input_tokens+excluded.input_tokens,"
                " output_tokens=usage.output_tokens+excluded.output_tokens,"
                " cached_tokens=usage.cached_tokens+excluded.cached_tokens,"
                " cost_usd=coalesce(usage.cost_usd+excluded.cost_usd,usage.cost_usd,"
                " excluded.cost_usd),"
                " answers=usage.answers+excluded.answers",
                {
                    "day": utc_day(now),
                    "input": usage.input_tokens,
                    "output": usage.output_tokens,
                    "cached": usage.cached_tokens,
                    "cost": usage.cost_usd,
                    "answers": answers,
                    "id": outcome.message_id,
                },
            )
