"""One turn of a contender: everything that is measured of it, one thing after the other."""

import time
from pathlib import Path

import msgspec

from bench.cost.figures import Spread, spread
from bench.peers import measures, usage
from bench.peers.asker import Asker
from bench.peers.contenders import Contender, started

IDLE_S = 8.0
SETTLE_S = 1.0  # of those: what the laps before have left to do
OUTSTANDING = 64


class Counts(msgspec.Struct, frozen=True):
    """How many questions and laps a turn has, and how long its pause is."""

    warm_up: int = 50
    one: int = 200
    many: int = 1000
    laps: int = 5
    idle_s: float = IDLE_S

    def scaled(self, scale: float) -> "Counts":
        """Return a share of them, for a quick look."""
        return Counts(
            warm_up=max(1, round(self.warm_up * scale)),
            one=max(5, round(self.one * scale)),
            many=max(20, round(self.many * scale)),
            laps=max(1, round(self.laps * scale)),
            idle_s=self.idle_s * scale,
        )


class Outcome(msgspec.Struct, frozen=True):
    """What a turn has shown, by measure, and the versions of what took part."""

    spreads: dict[str, Spread]
    versions: str


def take(contender: Contender, folder: Path, counts: Counts) -> Outcome:
    """Start a contender in the folder, measure it, and end it."""
    with started(contender, folder) as turn:
        asker = turn.asker
        asker.seconds(1, laps=counts.warm_up)
        samples = {**_asked(asker, counts), **_idle(asker, counts)}
    return Outcome({name: spread(samples[name]) for name in measures.UNITS}, turn.versions)


def _asked(asker: Asker, counts: Counts) -> dict[str, list[float]]:
    """Return the samples of asking without a pause."""
    before = usage.processor_s(usage.processes())
    each = asker.seconds(1, laps=counts.one)
    used = usage.processor_s(usage.processes()) - before
    [many] = asker.seconds(counts.many)
    together = asker.seconds(OUTSTANDING, laps=counts.laps, together=True)
    return {
        measures.ONE: [seconds * 1e6 for seconds in each],
        measures.PROCESSOR: [used / counts.one * 1e6],
        measures.SINGLY: [counts.many / many],
        measures.TOGETHER: [OUTSTANDING / seconds for seconds in together],
    }


def _idle(asker: Asker, counts: Counts) -> dict[str, list[float]]:
    """Return the samples of a pause, of all but the asker, and of the question after it."""
    settle = min(SETTLE_S, counts.idle_s / 2)
    time.sleep(settle)
    resting = [each for each in usage.processes() if each.pid != asker.pid]
    began, before = time.monotonic(), usage.processor_s(resting)
    time.sleep(counts.idle_s - settle)
    share = (usage.processor_s(resting) - before) / (time.monotonic() - began)
    [rested] = asker.seconds(1)
    return {
        measures.RESTED: [rested * 1e6],
        measures.IDLE: [100 * share],
        measures.MEMORY: [usage.memory_bytes(resting)],
    }
