"""The table as a picture: a panel for each thing measured, with a bar for each contender."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from bench.cost import plot
from bench.cost.figures import Figure
from bench.peers.contenders import CONTENDERS, FLOOR, OURS
from bench.peers.table import Column, columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "peers.svg"
_COLOURS = {FLOOR: "#222222", OURS: plot.MET}
_ACROSS = 2


def chart(figures: Sequence[Figure]) -> bytes:
    """Return the picture as SVG."""
    measured = list(columns(figures))
    names = [each.name for each in CONTENDERS if each.name in measured[0].values]
    down = ceil(len(measured) / _ACROSS)
    with plot.drawing(8.0, (0.6 + 0.2 * len(names)) * down) as picture:
        for number, column in enumerate(measured, 1):
            _bars(picture.add_subplot(down, _ACROSS, number), column, names)
        return plot.svg(picture)


def _bars(axes: Axes, column: Column, names: Sequence[str]) -> None:
    more = column.unit == "per_s"
    axes.set_title(f"{column.title} ({'more' if more else 'less'} is better)", fontsize=8)
    for place, name in enumerate(names):
        value = column.values[name]
        axes.barh(place, value, height=0.7, color=_COLOURS.get(name, plot.NO_TARGET))
        axes.annotate(
            column.cell(name),
            (value, place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.margins(x=0.25)
