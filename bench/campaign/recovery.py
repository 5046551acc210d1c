"""How long it took until everybody was answered again, as a table and as a plot."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from bench.campaign.storm import Fault

# Milliseconds; each class is twice as wide as the one before.
CLASSES = (0, 32, 63, 125, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000)
BAR = 50
WIDTH, HEIGHT, MARGIN = 720, 300, 48


@dataclass(frozen=True)
class Question:
    """A question that was answered (wall-clock milliseconds)."""

    asker: str
    asked: int
    settled: int


def recoveries(faults: Sequence[Fault], questions: Sequence[Question]) -> dict[str, list[int]]:
    """Return for each kind of fault how long it took until every asker had an answer (ms).

    An answer to a question asked after the fault, that is: of what was on its way before, some
    would come from a home that is dead. Faults so late that somebody asked nothing more are left
    out.
    """
    by_asker: dict[str, list[Question]] = defaultdict(list)
    for question in sorted(questions, key=lambda each: each.asked):
        by_asker[question.asker].append(question)
    found: dict[str, list[int]] = defaultdict(list)
    for fault in faults:
        firsts = [_first_answer(asked, fault.at) for asked in by_asker.values()]
        if None not in firsts:
            found[fault.kind].append(max(first - fault.at for first in firsts if first))
    return dict(found)


def _first_answer(questions: Sequence[Question], moment: int) -> int | None:
    """Return when the first question asked after the moment was answered."""
    after = [each.settled for each in questions if each.asked >= moment]
    return min(after, default=None)


def table(times: Mapping[str, Sequence[int]]) -> str:
    """Return a line for each kind: how often, and median, 90th percentile and worst in ms."""
    lines = [f"{'fault':24} {'times':>5} {'median':>8} {'90 %':>8} {'worst':>8}  ms"]
    for kind, values in sorted(times.items(), key=lambda item: statistics.median(item[1])):
        ordered = sorted(values)
        high = ordered[len(ordered) * 9 // 10]
        lines.append(
            f"{kind:24} {len(ordered):5} {statistics.median(ordered):8.0f} {high:8} {ordered[-1]:8}"
        )
    return "\n".join(lines)


def histogram(values: Sequence[int]) -> list[tuple[str, int]]:
    """Return the classes (their words, and how many values fall into each) up to the last used."""
    counts = [sum(low <= value < high for value in values) for low, high in pairwise(CLASSES)]
    counts.append(sum(value >= CLASSES[-1] for value in values))
    used = max((number for number, count in enumerate(counts, 1) if count), default=0)
    names = [*(f"< {_span(high)}" for high in CLASSES[1:]), f"> {_span(CLASSES[-1])}"]
    return list(zip(names, counts, strict=True))[:used]


def text_plot(values: Sequence[int]) -> str:
    """Return the distribution as bars of characters."""
    classes = histogram(values)
    most = max((count for _, count in classes), default=1)
    return "\n".join(
        f"{name:>9} {count:5} {'█' * round(BAR * count / most)}" for name, count in classes
    )


def svg_plot(values: Sequence[int], title: str) -> str:
    """Return the distribution as a picture."""
    classes = histogram(values)
    most = max((count for _, count in classes), default=1)
    step = (WIDTH - 2 * MARGIN) / max(1, len(classes))
    floor = HEIGHT - MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="11" text-anchor="middle">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="24" font-size="14">{escape(title)}</text>',
    ]
    for number, (name, count) in enumerate(classes):
        height = (floor - MARGIN) * count / most
        left = MARGIN + number * step
        middle = left + step / 2
        parts += [
            f'<rect x="{left + 2:.1f}" y="{floor - height:.1f}" width="{step - 4:.1f}" '
            f'height="{height:.1f}" fill="#4477aa"/>',
            f'<text x="{middle:.1f}" y="{floor - height - 4:.1f}">{count or ""}</text>',
            f'<text x="{middle:.1f}" y="{floor + 16}">{escape(name)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def _span(ms: int) -> str:
    return f"{ms // 1000} s" if ms >= 1000 else f"{ms} ms"
