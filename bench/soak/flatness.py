"""Whether what was sampled stays flat: least squares over each incarnation, without its warm-up.

A process that is restarted begins anew, at another level. So each incarnation has a level of its
own, and one slope is fitted to all of them together.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby

import msgspec

from bench.soak.sample import Sample

PER = 100_000  # questions
LIMIT = 0.01  # of the mean, for each PER questions
EARLY = 0.03  # of the mean, for all of less than PER: caches and heaps still fill
WARM_UP = 0.10  # of an incarnation
FEWEST = 5  # points more than levels and slope need

Point = tuple[float, float]  # questions asked, value


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How one thing went: slope and its standard error as shares of the mean for PER questions.

    `allowed` is LIMIT, or for less than PER questions what is growth of EARLY in all of them.
    """

    name: str
    mean: float
    slope: float
    error: float
    allowed: float
    points: int

    @property
    def word(self) -> str:
        """flat, grows, in the noise (it may grow or not), or too short."""
        if self.points < FEWEST:
            return "too short"
        if self.slope <= self.allowed:
            return "flat"
        return "grows" if self.slope - 2 * self.error > self.allowed else "in the noise"

    @property
    def is_good(self) -> bool:
        """Whether nothing is held against it."""
        return self.word in ("flat", "in the noise")


def judge_all(samples: Sequence[Sample]) -> list[Verdict]:
    """Return a verdict on memory and descriptors of each process, on the log, and on latency."""
    found: dict[str, dict[object, list[Point]]] = defaultdict(lambda: defaultdict(list))
    # What happens during a restart is no trend, and after it caches are empty.
    for number, (restarting, era) in enumerate(groupby(samples, lambda each: each.restarting)):
        for sample in () if restarting else era:
            for name, held in sample.held.items():
                found[f"{name}, memory"][held.pid].append((sample.asked, held.rss))
                found[f"{name}, descriptors"][held.pid].append((sample.asked, held.fds))
            found["write-ahead log"][number].append((sample.asked, sample.log))
            found["p99"][number].append((sample.asked, sample.p99_ms))
    return [judge(name, list(runs.values())) for name, runs in found.items()]


def judge(name: str, runs: Sequence[Sequence[Point]]) -> Verdict:
    """Return the verdict on one thing, given its points in each incarnation."""
    warm = [points for run in runs if (points := warmed_up(run))]
    values = [y for points in warm for _, y in points]
    mean = sum(values) / len(values) if values else 0.0
    span = max((points[-1][0] - points[0][0] for points in warm), default=0.0)
    slope, error = fit(warm)
    share = PER / mean if mean else 0.0
    return Verdict(
        name=name,
        mean=mean,
        slope=slope * share,
        error=error * share,
        allowed=EARLY * PER / span if 0 < span < PER else LIMIT,
        points=max(0, len(values) - len(warm) - 1),
    )


def warmed_up(run: Sequence[Point]) -> list[Point]:
    """Return the points of an incarnation after its warm-up."""
    first, last = run[0][0], run[-1][0]
    return [point for point in run if point[0] >= first + WARM_UP * (last - first)]


def fit(runs: Sequence[Sequence[Point]]) -> tuple[float, float]:
    """Return the slope that fits all runs best, each at its own level, and its standard error."""
    spread = product = square = 0.0
    count = 0
    for run in runs:
        middle = sum(x for x, _ in run) / len(run)
        level = sum(y for _, y in run) / len(run)
        spread += sum((x - middle) ** 2 for x, _ in run)
        product += sum((x - middle) * (y - level) for x, y in run)
        square += sum((y - level) ** 2 for _, y in run)
        count += len(run)
    free = count - len(runs) - 1
    if not spread or free <= 0:
        return 0.0, 0.0
    slope = product / spread
    return slope, math.sqrt(max(0.0, square - slope * product) / free / spread)


def table(verdicts: Sequence[Verdict]) -> str:
    """Return a line for each verdict."""
    lines = [f"{'':24} {'mean':>10} {'slope per 100,000':>20} {'allowed':>8}"]
    for each in verdicts:
        unit = next(unit for end, unit in _UNITS.items() if each.name.endswith(end))
        slope = f"{each.slope:+.2%} ± {2 * each.error:.2%}"
        lines.append(
            f"{each.name:24} {_shown(each.mean, unit):>10} {slope:>20} {each.allowed:8.1%}"
            f"  {each.word}"
        )
    return "\n".join(lines)


_UNITS: Mapping[str, str] = {"memory": "MB", "log": "MB", "p99": "ms", "descriptors": ""}


def _shown(value: float, unit: str) -> str:
    return f"{value / 1e6:.2f} MB" if unit == "MB" else f"{value:.1f} {unit}".rstrip()
