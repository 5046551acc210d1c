"""What the shards cost, by day."""

import json
from collections import defaultdict
from collections.abc import Sequence

from autopoll.bridge.records import Answered, Outcome, Settled, Spent
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.lanes import is_canary
from autopoll.clock import utc_day
from autopoll.request import Usage

_ADD = """INSERT INTO usage(day,shard,input_tokens,output_tokens,cached_tokens,cost_usd,answers)
  VALUES(?,?,?,?,?,?,?) ON CONFLICT(day,shard) DO UPDATE SET
  input_tokens=usage.input_tokens+excluded.input_tokens,
  output_tokens=usage.output_tokens+excluded.output_tokens,
  cached_tokens=usage.cached_tokens+excluded.cached_tokens,
  cost_usd=coalesce(usage.cost_usd+excluded.cost_usd,usage.cost_usd,excluded.cost_usd),
  answers=usage.answers+excluded.answers"""


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

    def charge(self, settled: Sequence[tuple[Outcome, Settled]], now: int) -> None:
        """Add what outcomes have cost to their shards, within the transaction that settles them."""
        reported = [pair for pair in settled if pair[0].usage is not None]
        if not reported:
            return
        numbers = json.dumps([outcome.message_id for outcome, _ in reported])
        rows = self._db.rows(
            "SELECT message_id, shard, lane FROM deliveries WHERE message_id IN"
            f" ({self._db.dialect.numbers.format('?')})",
            (numbers,),
        )
        shards: dict[int, str] = {number: shard for number, shard, _ in rows}
        uncounted = {number for number, _, lane in rows if is_canary(lane)}
        total: dict[str, _Total] = defaultdict(_Total)
        for outcome, became in reported:
            if outcome.usage and outcome.message_id in shards:
                answered = isinstance(outcome, Answered) and became.state == "done"
                answered = answered and outcome.message_id not in uncounted
                total[shards[outcome.message_id]].add(outcome.usage, answers=int(answered))
        # In the order in which all lock the rows.
        self._db.many(_ADD, [(utc_day(now), shard, *total[shard].row()) for shard in sorted(total)])


class _Total:
    """The sum of what one shard has cost; dollars are unknown as long as nobody reports them."""

    def __init__(self) -> None:
        self._counts = [0, 0, 0, 0]  # input, output and cached tokens; answers
        self._cost: float | None = None

    def add(self, usage: Usage, *, answers: int) -> None:
        new = (usage.input_tokens, usage.output_tokens, usage.cached_tokens, answers)
        self._counts = [old + more for old, more in zip(self._counts, new, strict=True)]
        if usage.cost_usd is not None:
            self._cost = (self._cost or 0.0) + usage.cost_usd

    def row(self) -> tuple[int, int, int, float | None, int]:
        tokens_in, tokens_out, cached, answers = self._counts
        return tokens_in, tokens_out, cached, self._cost, answers
