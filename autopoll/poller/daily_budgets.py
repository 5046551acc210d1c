"""What shards may cost in a day: over its budget a shard is paused until the next UTC midnight.

The bridge keeps the sums, with every settlement. They are read at the start and on every new day,
and counted on from there, so that no more is given out from the moment that a budget is known to be
used up.
"""

import logging
from collections.abc import Iterable, Mapping

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Spent
from autopoll.clock import day_end_ms, utc_day, wall_ms
from autopoll.home.config import ShardSection
from autopoll.poller.pauses import Pauses
from autopoll.request import Usage

log = logging.getLogger(__name__)


class DailyBudgets:
    """The daily budgets of the shards, and what each has spent today."""

    def __init__(self, bridge: Bridge, pauses: Pauses, shards: Mapping[str, ShardSection]) -> None:
        self._bridge = bridge
        self._pauses = pauses
        self._shards = shards
        self._day = ""
        self._spent: dict[str, Spent] = {}
        self._waived: set[str] = set()  # somebody ended their pause, and wants them to go on today
        self._unpriced: set[str] = set()

    def update(self, shards: Mapping[str, ShardSection]) -> None:
        """Use other settings from now on; a budget that was changed is waived no longer."""
        known = {name: _budget(section) for name, section in self._shards.items()}
        self._waived = {
            shard
            for shard in self._waived & shards.keys()
            if known[shard] == _budget(shards[shard])
        }
        self._shards = shards

    def check(self, ended: Iterable[str]) -> None:
        """Begin and end pauses as the day and the settings require; to be called once a second.

        `ended` are shards whose pause somebody has ended: they go on until the day is over. Raises
        BridgeError when a new day's sums cannot be read.
        """
        for shard in ended:
            if self._pauses.is_overspent(shard):
                log.warning("the budget of shard %s is waived for today", shard)
                self._waived.add(shard)
        if (day := utc_day(wall_ms())) != self._day:
            self._spent = self._bridge.overview.spent(day)
            self._day = day
            self._waived.clear()
        for shard in self._shards:
            self._enforce(shard)

    def charge(self, shard: str, usage: Usage | None) -> None:
        """Count what an attempt has cost, and pause its shard if that was too much."""
        if usage is None:
            return
        before = self._spent.get(shard, Spent())
        costs = [cost for cost in (before.cost_usd, usage.cost_usd) if cost is not None]
        self._spent[shard] = Spent(
            input_tokens=before.input_tokens + usage.input_tokens,
            output_tokens=before.output_tokens + usage.output_tokens,
            cached_tokens=before.cached_tokens + usage.cached_tokens,
            cost_usd=sum(costs) if costs else None,
        )
        if shard in self._shards:
            self._warn_of_unpriced(shard, usage)
            self._enforce(shard)

    def _enforce(self, shard: str) -> None:
        text = _overspent(self._shards[shard], self._spent.get(shard, Spent()))
        if text and shard not in self._waived:
            self._pauses.overspent(shard, text, day_end_ms(wall_ms()))
        elif self._pauses.is_overspent(shard):
            self._pauses.end(shard)

    def _warn_of_unpriced(self, shard: str, usage: Usage) -> None:
        limited = self._shards[shard].daily_cost is not None
        if limited and usage.cost_usd is None and shard not in self._unpriced:
            self._unpriced.add(shard)
            log.warning(
                "shard %s has a daily_cost, but its backend does not say what an answer costs;"
                " only daily_tokens can limit it",
                shard,
            )


def _budget(section: ShardSection) -> tuple[int | None, float | None]:
    return section.daily_tokens, section.daily_cost


def _overspent(section: ShardSection, spent: Spent) -> str:
    """Return what is used up, in numbers; empty while nothing is."""
    if section.daily_tokens is not None and spent.tokens >= section.daily_tokens:
        return f"{spent.tokens:,} of {section.daily_tokens:,} tokens used today"
    if section.daily_cost is not None and (spent.cost_usd or 0.0) >= section.daily_cost:
        return f"${spent.cost_usd:,.2f} of ${section.daily_cost:,.2f} used today"
    return ""
