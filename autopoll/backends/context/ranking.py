"""What decides between sections that have words of the question, beside how rare the words are.

The numbers were set on the development sets of `bench.answers`, and never by the held-out ones.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from itertools import pairwise

from autopoll.backends.context.formats.block import BlockKind
from autopoll.backends.context.paragraphs import Paragraph

# A score is the sum of these, each times what of the question is found so, mostly 0 to 1.
SECTION = 1.5  # BM25 of the section
NEARNESS = 0.75  # words that stand as near to each other as in the question
HEADING = 0.75  # a heading that has the words of the question and no others
PASSAGE = 1.0  # BM25 of the passage by itself
PAIRS = 1.5  # words that stand side by side as in the question
RELATIVES = 1.0  # words of which only relatives are there: debugger for debug
VERDICT = 1.0  # a yes or no at the beginning, for a question that wants one

LEAST, STEEPNESS = 0.19, 1.3  # what the best passage must score, by the mean weight of the words

SATURATION, BY_LENGTH, USUAL = 1.2, 0.3, 80  # k1 and b of BM25, and the words of a passage
RELATED = 4  # letters of a word that may have relatives; one more makes two of them relatives
FAR = 20  # words apart that say nothing any more
OLD_NEWS = 0.6  # what release notes count, as they tell of a thing's past
GUIDE = 1.6  # what guides count for a question in words
CODE = 1.15  # what code counts for a question that asks how

_WORDS = re.compile(r"[^\W\d_]+")
_RELEASE = re.compile(r"v?\d+(?:\.\d+)+")
_NEWS = re.compile(
    "announce(?:ments?)?|changelogs?|changes|deprecations|history|news|releases?|releasenotes|whatsnew"
)
_GUIDES = re.compile("faq|howto|how-to|tutorial|guide|quickstart|cookbook|getting.?started")
_ASKS = re.compile(
    r"\s*(?:how|why|what|when|where|which|who|whose|can|could|do|does|did|is|are|should|may|i|my)\b"
    r"|.*\?\s*$",
    re.IGNORECASE | re.DOTALL,
)
_ASKS_WHETHER = re.compile(
    r"\s*(?:is|are|was|can|could|do|does|did|should|will|would|has|have|may|must)\b", re.IGNORECASE
)
_VERDICT = re.compile(
    r"(?:\A|\n\s*\n)\W*(?:yes\b|no[,.;:!]|not really\b|of course\b|sure[,.;:!])", re.IGNORECASE
)
_ASKS_HOW = re.compile(r"\s*(?:how|where|can|could|is there)\b", re.IGNORECASE)


def asks(question: str) -> bool:
    """Return whether it is a question in words, rather than the words that are looked for."""
    return _ASKS.match(question[:4096]) is not None


def asks_how(question: str) -> bool:
    """Return whether something to type is the better answer."""
    return _ASKS_HOW.match(question) is not None


def asks_whether(question: str) -> bool:
    """Return whether yes or no is an answer."""
    return _ASKS_WHETHER.match(question) is not None


def is_verdict(text: str) -> bool:
    """Return whether a text begins with yes or no, below its heading."""
    return _VERDICT.search(text) is not None


def is_news(name: str) -> bool:
    """Return whether a file, by its name and folders, says what changed and when."""
    parts = name.lower().split("/")
    words = [word for part in parts for word in _WORDS.findall(part)]
    return any(map(_NEWS.fullmatch, words)) or _RELEASE.fullmatch(parts[-1]) is not None


def is_guide(name: str) -> bool:
    """Return whether a file, by its name and folders, leads somebody through a thing."""
    return _GUIDES.search(name.lower()) is not None


def least(weight: float) -> float:
    """Return what the best passage must score to be an answer, by the mean weight of the words.

    The rarer they are, the more it must have of them; the rarest are those that are nowhere.
    """
    return LEAST * math.pow(weight, STEEPNESS)


def standing(title: str, passage: Sequence[Paragraph], is_in_words: bool, asks_how: bool) -> float:
    """Return by what the score of a passage is multiplied for what it is."""
    factor = CODE if asks_how and any(each.kind is BlockKind.CODE for each in passage) else 1.0
    if is_news(title):
        return factor * OLD_NEWS
    return factor * GUIDE if is_in_words and is_guide(title) else factor


def richness(weights: Mapping[str, float], text: Sequence[str]) -> float:
    """Return how much a text says of what is asked, by BM25."""
    counts = Counter(text)
    steep = SATURATION * (1 - BY_LENGTH + BY_LENGTH * len(text) / USUAL)
    return sum(
        weight * counts[word] * (SATURATION + 1) / (counts[word] + steep)
        for word, weight in weights.items()
    )


def relatives(weights: Mapping[str, float], text: Sequence[str]) -> float:
    """Return the weight of the words that are not in a text, but a relative of which is.

    Relatives begin alike, or one has the other in it; short words have none.
    """
    joined = f" {' '.join(text)} "
    return sum(
        weight
        for word, weight in weights.items()
        if len(word) >= RELATED and f" {word} " not in joined and _has_relative(word, joined)
    )


def _has_relative(word: str, joined: str) -> bool:
    begins = f" {word[: RELATED + 1]}" in joined or f" {word[:RELATED]} " in joined
    return begins or (len(word) > RELATED and word in joined)


def together(pairs: Sequence[tuple[str, str]], text: Sequence[str]) -> float:
    """Return the share of neighbours in the question that are neighbours in a text."""
    there = set(pairwise(text))
    return sum(pair in there for pair in pairs) / len(pairs) if pairs else 0.0


def likeness(weights: Mapping[str, float], heading: Set[str]) -> float:
    """Return how much of the question a heading says, and of the heading the question, 0 to 1.

    `weights` say how telling each stem of the question is; a word of the heading alone is as
    telling as one of these is on average.
    """
    both = sum(weight for word, weight in weights.items() if word in heading)
    total = sum(weights.values())
    alone = len(heading - weights.keys()) * total / len(weights)
    return 2 * both / (total + both + alone)


def nearness(words: Sequence[str], weights: Mapping[str, float], text: Sequence[str]) -> float:
    """Return how near to each other neighbours of the question stand in a text, 0 to 1.

    `words` are the stems of the question in their order, `weights` how telling each one is.
    """
    places: defaultdict[str, list[int]] = defaultdict(list)
    wanted = set(words)
    for at, word in enumerate(text):
        if word in wanted:
            places[word].append(at)
    near = total = 0.0
    for one, other in pairwise(words):
        weight = weights[one] + weights[other]
        total += weight
        if (apart := _apart(places[one], places[other])) < FAR:
            near += weight / max(1, apart) ** 0.5
    return near / total if total else 0.0


def _apart(some: Sequence[int], others: Sequence[int]) -> int:
    """Return the least distance between places of two ordered lists."""
    least, at = FAR, 0
    for place in some:
        while at + 1 < len(others) and others[at + 1] <= place:
            at += 1
        for other in others[at : at + 2]:
            least = min(least, abs(place - other))
    return least
