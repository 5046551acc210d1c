"""Which lines of a section are the passage that answers; pure."""

from collections.abc import Mapping, Sequence

from autopoll.backends.context.formats.block import BlockKind
from autopoll.backends.context.paragraphs import Paragraph

PASSAGE_CHARS = 900
MARGIN = 1.02  # by which a longer passage must match better


def best_passage(
    paragraphs: Sequence[Paragraph],
    section: range,
    matches: Mapping[int, Mapping[str, float]],
    weights: Mapping[str, float],
) -> range:
    """Return the run of a readable size that matches best, empty when nothing does.

    A paragraph joins only if it adds something, or is the code that the
    one before introduces.
    """
    best, top = range(0), 0.0
    for first in section:
        if not matches[first]:
            continue
        size, score, shares = 0, 0.0, dict[str, float]()
        for at in range(first, section.stop):
            size += len(paragraphs[at].text)
            if at > first and size > PASSAGE_CHARS:
                break
            for word, share in matches[at].items():
                before = shares.get(word, 0.0)
                shares[word] = before + (1 - before) * share
                score += weights[word] * (shares[word] - before)
            if score > top * MARGIN:
                best, top = range(first, at + 1), score
    if best and _introduces(paragraphs, best.stop - 1, section):
        best = range(best.start, best.stop + 1)
    if best and _introduces(paragraphs, best.start - 1, section):
        best = range(best.start - 1, best.stop)
    return best


def _introduces(paragraphs: Sequence[Paragraph], at: int, section: range) -> bool:
    """Return whether a paragraph introduces the code that follows it."""
    return (
        at in section
        and at + 1 in section
        and paragraphs[at].text.rstrip().endswith(":")
        and paragraphs[at + 1].kind is BlockKind.CODE
    )


def weight(shares: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Return what matched words count, by how well each is matched and how telling it is."""
    return sum(weights[word] * share for word, share in shares.items())
