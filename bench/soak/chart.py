"""The soak as a picture over time: memory, descriptors, latency and files; restarts in grey."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from matplotlib.axes import Axes

from bench.cost.plot import drawing, svg
from bench.soak.sample import Sample

LATENCY = "batch of 100, ms"
Curves = Mapping[str, Sequence[tuple[float, float]]]


def chart(samples: Sequence[Sample]) -> bytes:
    """Return the picture as SVG."""
    panels = curves(samples)
    ends = [0.0, *(sample.seconds / 60 for sample in samples)]
    with drawing(7.0, 10.0) as picture:
        axes = None
        for number, (title, lines) in enumerate(panels.items(), 1):
            axes = picture.add_subplot(len(panels), 1, number, sharex=axes)
            draw(axes, title, lines)
            for sample, (begin, end) in zip(samples, pairwise(ends), strict=True):
                if sample.restarting:
                    axes.axvspan(begin, end, color="#eeeeee", lw=0)
        assert axes
        axes.set_xlabel(f"minutes; {samples[-1].asked:,} questions in all; restarts in grey")
        return svg(picture)


def curves(samples: Sequence[Sample]) -> dict[str, Curves]:
    """Return what is drawn: panel -> curve -> (minutes, value)."""
    at = [(sample.seconds / 60, sample) for sample in samples]
    names = sorted({name for sample in samples for name in sample.held})

    def of_each(value: str, unit: float) -> Curves:
        return {
            name: [
                (x, getattr(each.held[name], value) / unit) for x, each in at if name in each.held
            ]
            for name in names
        }

    return {
        "resident memory, MB": of_each("rss", 1e6),
        "descriptors": of_each("fds", 1),
        LATENCY: {
            "p99": [(x, each.p99_ms) for x, each in at],
            "p50": [(x, each.p50_ms) for x, each in at],
        },
        "log, MB": {"log": [(x, each.log / 1e6) for x, each in at]},
        "database, MB": {"database": [(x, each.database / 1e6) for x, each in at]},
    }


def draw(axes: Axes, title: str, lines: Curves) -> None:
    """Draw the curves of one panel."""
    for name, points in lines.items():
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, lw=1.0, label=name)
    axes.set_ylabel(title)
    if title == LATENCY:
        axes.set_yscale("log")  # a restart takes seconds
    else:
        axes.set_ylim(bottom=0)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=7, ncols=len(lines), loc="lower right")
