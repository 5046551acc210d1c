"""Which lines of a section are the passage that answers; pure."""

from collections.abc import Mapping, Sequence

from autopoll.backends.context.formats.block import BlockKind
from autopoll.backends.context.paragraphs import Paragraph

PASSAGE_CHARS = 900
MARGIN = 1.02  # by which a longer passage must match better
COVER = 0.35  # share of the question's weight that a passage must match to be an answer at all,
MANY = 0.4  # or share of the number of its words
HEAVIEST = 8  # words by which these shares are measured


def answers(weights: Mapping[str, float], matched: set[str]) -> bool:
    """Return whether the matched words are enough of the question, by weight or by number."""
    # The heaviest words only: nobody answers all of a page of text.
    total = sum(sorted(weights.values())[-HEAVIEST:])
    found = sum(weights[word] for word in matched)
    return found >= COVER * total or len(matched) >= MANY * min(len(weights), HEAVIEST)


def best_passage(
    paragraphs: Sequence[Paragraph],
    section: range,
    matches: Mapping[int, Mapping[str, float]],
    weights: Mapping[str, float],
    used: set[int],
) -> tuple[range, float]:
    """Return the run of a readable size that matches best and has no paragraph that is used.

    Empty when there is none. A paragraph joins only if it adds something, or is the code that the
    one before introduces.
    """
    best, top = range(0), 0.0
    for first in section:
        if not matches[first]:
            continue
        size, shares = 0, dict[str, float]()
        for at in range(first, section.stop):
            size += len(paragraphs[at].text)
            if at in used or (at > first and size > PASSAGE_CHARS):
                break
            for word, share in matches[at].items():
                shares[word] = 1 - (1 - shares.get(word, 0.0)) * (1 - share)
            score = weight(shares, weights)
            if score > top * MARGIN:
                best, top = range(first, at + 1), score
    if best and _introduces(paragraphs, best.stop - 1, section, used):
        best = range(best.start, best.stop + 1)
    if best and _introduces(paragraphs, best.start - 1, section, used):
        best = range(best.start - 1, best.stop)
    return best, top


def _introduces(paragraphs: Sequence[Paragraph], at: int, section: range, used: set[int]) -> bool:
    """Return whether a paragraph introduces the code that follows it, and neither is used."""
    return (
        at in section
        and at + 1 in section
        and not used.intersection((at, at + 1))
        and paragraphs[at].text.rstrip().endswith(":")
        and paragraphs[at + 1].kind is BlockKind.CODE
    )


def weight(shares: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Return what matched words count, by how well each is matched and how telling it is."""
    return sum(weights[word] * share for word, share in shares.items())
