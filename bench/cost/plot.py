"""The figures as pictures: ratios as bars beside their targets, and curves over size or number.

matplotlib is loaded here and only when something is to be drawn. The same figures make the same
bytes, whenever they are drawn, so that a picture can be committed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING

from bench.cost.figures import Figure
from bench.cost.table import digits, sections

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

LEFT_OUT = "plots are left out: matplotlib is not installed (pip install matplotlib)"
NO_TARGET, MET, MISSED = "#8899aa", "#44aa77", "#cc5544"
_COLOURS = {None: NO_TARGET, True: MET, False: MISSED}
_NAMES = {"us": "µs", "per_s": "per second", "MB_per_s": "MB/s", "percent": "%"}


def is_possible() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def pictures(figures: Sequence[Figure]) -> dict[str, bytes]:
    """Return the SVG files (name -> content) that the figures make."""
    made = {}
    if compared := [figure for figure in figures if figure.ratio]:
        with drawing(6.0, 0.9 + 0.24 * len(compared)) as picture:
            _bars(picture.add_subplot(), compared)
            made["ratios.svg"] = svg(picture)
    for name, group in sections(figures):
        panels = _panels(group)
        if panels:
            with drawing(6.0, 3.2 * len(panels)) as picture:
                for number, ((axis, unit), members) in enumerate(panels.items(), 1):
                    _curves(picture.add_subplot(len(panels), 1, number), members, axis, unit)
                made[f"{name}.svg"] = svg(picture)
    return made


@contextmanager
def drawing(width: float, height: float) -> Iterator[Picture]:
    """Make an empty picture (inches) that looks the same whatever the user has configured."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Picture

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rc("svg", hashsalt="autopoll", fonttype="none")  # unsalted, elements have random names
        mpl.rc("font", size=9.0)
        mpl.rc("axes.spines", top=False, right=False)
        yield Picture(figsize=(width, height), layout="constrained")


def svg(picture: Picture) -> bytes:
    """Return the picture, without the date and the version that made it."""
    file = BytesIO()
    picture.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    lines = file.getvalue().splitlines()
    return b"\n".join(line.rstrip() for line in lines) + b"\n"


def _bars(axes: Axes, figures: Sequence[Figure]) -> None:
    """Draw bars that begin at the floor: to the right is above it, to the left below."""
    axes.set_xscale("log")
    for place, figure in enumerate(figures):
        assert figure.ratio is not None
        axes.barh(place, figure.ratio - 1, left=1, height=0.7, color=_COLOURS[figure.met])
        axes.annotate(
            digits(figure.ratio),
            (max(1.0, figure.ratio), place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
        if figure.target is not None:
            axes.plot([figure.target] * 2, [place - 0.45, place + 0.45], color="black", lw=1.5)
    axes.axvline(1, color="black", lw=0.8)
    axes.set_yticks(range(len(figures)), [f"{figure.section}: {figure.name}" for figure in figures])
    axes.invert_yaxis()
    axes.set_xlabel("ratio to the floor; the black mark is the target")
    axes.margins(x=0.15)


def _panels(figures: Sequence[Figure]) -> dict[tuple[str, str], list[Figure]]:
    """Return the figures that lie on curves, by what is below them and what is beside them."""
    panels: dict[tuple[str, str], list[Figure]] = {}
    for figure in figures:
        if figure.point:
            panels.setdefault((figure.point.axis, figure.unit), []).append(figure)
    return panels


def _curves(axes: Axes, figures: Sequence[Figure], axis: str, unit: str) -> None:
    curves: dict[str, list[tuple[float, float]]] = {}
    for figure in figures:
        assert figure.point
        curves.setdefault(figure.point.curve, []).append((figure.point.x, figure.value))
    places = [x for points in curves.values() for x, _ in points]
    values = [y for points in curves.values() for _, y in points]
    for name, points in curves.items():
        xs, ys = zip(*sorted(points), strict=True)
        axes.plot(xs, ys, marker="o", ms=3, lw=1.2, label=name)
    if _make_logarithmic(axes, "x", places):
        axes.set_xticks(sorted(set(places)))  # its own would crowd beside the nothing
    _make_logarithmic(axes, "y", values)
    axes.set_xlabel(axis)
    axes.set_ylabel(_NAMES.get(unit, unit))
    axes.grid(which="major", color="#dddddd", lw=0.5)
    axes.legend(frameon=False, fontsize=7)


def _make_logarithmic(axes: Axes, which: str, values: Sequence[float]) -> bool:
    """Make an axis logarithmic, and tell whether it needed a place for nothing at all."""
    scale = axes.set_xscale if which == "x" else axes.set_yscale
    above = [value for value in values if value > 0]
    if len(above) == len(values):
        scale("log")
    elif above:
        scale("symlog", linthresh=min(above))
    return len(above) < len(values)
