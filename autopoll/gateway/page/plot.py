"""A small plot of a few numbers, as SVG is told what to draw."""

from collections.abc import Sequence

import msgspec

WIDTH, HEIGHT = 240, 48
_GAP = 2


class Bar(msgspec.Struct, frozen=True):
    """One bar: its place and size, and the number that it stands for."""

    x: float
    y: float
    width: float
    height: float
    value: int | None


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """Bars from left to right, the highest as high as the plot; `most` is its number."""

    bars: list[Bar]
    most: int

    @classmethod
    def of(cls, values: Sequence[int | None]) -> "Plot":
        """Return the plot of numbers, where None leaves a gap."""
        most = max((each for each in values if each is not None), default=0)
        step = WIDTH / max(1, len(values))
        bars = []
        for place, value in enumerate(values):
            height = round(HEIGHT * value / most, 1) if value and most else 0.0
            bars.append(
                Bar(round(place * step, 1), HEIGHT - height, round(step - _GAP, 1), height, value)
            )
        return cls(bars=bars, most=most)
