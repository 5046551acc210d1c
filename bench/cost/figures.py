"""A figure, and how one is made: by rounds in which the things compared take turns."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

Say = Callable[[str], None]
Lap = Callable[[], Sequence[float]]


class Point(msgspec.Struct, frozen=True):
    """Where a figure stands in a plot: on which curve, and at which place of the axis below."""

    curve: str
    x: float
    axis: str  # what x counts, in words: "bytes of a message"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured value.

    `ratio` is to the floor of the same run (`floor` names it); a `target` bounds the ratio where
    there is one, else the value, from above or, with `at_least`, from below.
    """

    section: str
    name: str
    value: float
    unit: str  # us, ms, s, per_s, MB_per_s, bytes, percent, count
    p99: float | None = None
    ratio: float | None = None
    p99_ratio: float | None = None
    floor: str | None = None
    target: float | None = None
    p99_target: float | None = None
    at_least: bool = False
    note: str = ""
    point: Point | None = None

    @property
    def more_is_better(self) -> bool:
        """Whether the figure ought to be large: a rate, or what has a target from below."""
        return self.at_least or self.unit.endswith("per_s")

    @property
    def met(self) -> bool | None:
        """Whether the target holds; None without one."""
        if self.target is None:
            return None
        judged = self.value if self.ratio is None else self.ratio
        holds = judged >= self.target if self.at_least else judged <= self.target
        if self.p99_target is not None and self.p99_ratio is not None:
            holds = holds and self.p99_ratio <= self.p99_target
        return holds


class Spread(msgspec.Struct, frozen=True):
    """What the rounds of one thing came to, in the unit of its laps: medians over the rounds."""

    p50: float
    p99: float


def interleave(laps: Mapping[str, Lap], rounds: int, say: Say) -> dict[str, Spread]:
    """Run every lap once a round, in turn, and return the medians of what each round showed.

    A lap returns its samples, in seconds of one operation each, or whatever it counts.
    """
    seen: dict[str, list[Spread]] = {name: [] for name in laps}
    for number in range(1, rounds + 1):
        for name, lap in laps.items():
            say(f"{name}, round {number} of {rounds}")
            seen[name].append(spread(lap()))
    return {name: median(spreads) for name, spreads in seen.items()}


def spread(samples: Iterable[float]) -> Spread:
    """Return the median and the 99th percentile of the samples, of which there is at least one."""
    ordered = sorted(samples)
    return Spread(
        statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    )


def median(spreads: Sequence[Spread]) -> Spread:
    """Return the medians of what several rounds have shown."""
    return Spread(
        statistics.median(each.p50 for each in spreads),
        statistics.median(each.p99 for each in spreads),
    )
