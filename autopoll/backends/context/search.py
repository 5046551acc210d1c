"""A full-text index of passages in memory: SQLite FTS5 finds, a closer look at the best decides.

What is indexed are overlapping windows of a few paragraphs, because an answer seldom has all the
words of its question in one paragraph: the heading has one, the sentence before another. What is
returned is narrower: the paragraph that matches best on its own and in its windows, with those of
its neighbours that match too.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import apsw

from autopoll.backends.context.paragraphs import Paragraph
from autopoll.backends.context.terms import PREFIX_FROM, indexable, prefix, terms

WINDOW = 5  # paragraphs
STRIDE = 2
CANDIDATES = 40  # windows that get the closer look
TITLE_WEIGHT = 2.0  # of a word in a heading, over one in the text
OWN_WEIGHT = 2.0  # of what the paragraph matches by itself, over what its window does
COVER = 0.35  # share of the question's weight that a passage must match to be an answer at all,
MANY = 0.4  # or share of the number of its words
HEAVIEST = 8  # words by which these shares are measured
PASSAGE_CHARS = 900
NEAR = 0.4  # of the best passage's score, below which a further one is noise
REMEMBERED = 4096  # paragraphs whose stems are kept, because questions come back to the same ones

# Letters, digits and the marks that are the vowels of many scripts make up a word.
_TOKENIZE = ("porter", "unicode61", "remove_diacritics", "2", "categories", "L* N* Co M*")


class Hit(NamedTuple):
    """A passage that may answer: consecutive paragraphs of one document, `best` among them."""

    path: Path
    paragraphs: Sequence[Paragraph]
    best: Paragraph
    score: float


class _Document(NamedTuple):
    path: Path
    base: int  # rowid of its first window
    title: str
    paragraphs: list[Paragraph]
    windows: list[tuple[int, int]]


class _Place(NamedTuple):
    document: _Document
    place: int  # index of the paragraph
    score: float
    matches: dict[int, dict[str, float]]  # of the candidate paragraphs of its document


class Index:
    """Documents cut into paragraphs, searchable by question. Not safe across threads."""

    def __init__(self) -> None:
        self._db = apsw.Connection(":memory:")
        self._db.execute(
            "CREATE VIRTUAL TABLE passage USING fts5(title, body, content='', "
            f"""contentless_delete=1, tokenize="{" ".join(map(repr, _TOKENIZE))}")"""
        )
        self._tokenizer = self._db.fts5_tokenizer(_TOKENIZE[0], list(_TOKENIZE[1:]))
        self._stemmed = lru_cache(REMEMBERED)(self._stem)
        self._documents: dict[Path, _Document] = {}
        self._order: list[_Document] = []  # by rowid; rowids are never used twice
        self._next = 1
        self._windows = 0

    def put(self, path: Path, title: str, paragraphs: list[Paragraph]) -> None:
        """Index a document, in place of the one of that path."""
        self.drop(path)
        if not paragraphs:
            return
        document = _Document(path, self._next, title, paragraphs, _windows(paragraphs))
        heads = [" ".join(each.headings) for each in paragraphs]
        bodies = [indexable(each.text) for each in paragraphs]
        with self._db:
            self._db.executemany(
                "INSERT INTO passage(rowid, title, body) VALUES (?, ?, ?)",
                (
                    (
                        document.base + number,
                        indexable(" ".join([title, *dict.fromkeys(heads[at:end])])),
                        "\n".join(bodies[at:end]),
                    )
                    for number, (at, end) in enumerate(document.windows)
                ),
            )
        self._next += len(document.windows)
        self._windows += len(document.windows)
        self._documents[path] = document
        self._order.append(document)

    def drop(self, path: Path) -> None:
        """Forget a document; tolerated when there is none."""
        document = self._documents.pop(path, None)
        if document is None:
            return
        count = len(document.windows)
        with self._db:
            self._db.execute(
                "DELETE FROM passage WHERE rowid >= ? AND rowid < ?",
                (document.base, document.base + count),
            )
        self._windows -= count
        del self._order[self._position(document.base)]

    def search(self, question: str, limit: int, only: Path | None = None) -> list[Hit]:
        """Return up to `limit` passages, best first; of one document when `only` names it."""
        weights = self._weights(terms(question))
        needles = {
            word: self._stemmed(word)[: -1 if len(word) >= PREFIX_FROM else None]
            for word in weights
        }
        hits = []
        for document, places in self._candidates(list(weights), only):
            matches = {place: self._match(document, place, needles) for place in places}
            for place, window_score in places.items():
                own = sum(weights[word] * share for word, share in matches[place].items())
                hits.append(_Place(document, place, window_score + OWN_WEIGHT * own, matches))
        hits.sort(key=lambda hit: (-hit.score, hit.document.base, hit.place))
        return self._passages(hits, weights, limit)

    def check(self) -> None:
        """Run a trivial query; raise apsw.Error when the index cannot be searched."""
        self._db.execute("SELECT count(*) FROM passage WHERE passage MATCH '\"a\"'").fetchall()

    def close(self) -> None:
        """Give the memory back."""
        self._db.close()

    def _candidates(
        self, words: Sequence[str], only: Path | None
    ) -> list[tuple[_Document, dict[int, float]]]:
        """Return each document's paragraphs in the best windows, with the score of that window."""
        low, high = 0, self._next
        if only is not None:
            document = self._documents.get(only)
            low = high = 0
            if document is not None:
                low, high = document.base, document.base + len(document.windows)
        if not words:
            return []
        rows = self._db.execute(
            "SELECT rowid, -bm25(passage, ?, 1.0) AS score FROM passage WHERE passage MATCH ? "
            "AND rowid >= ? AND rowid < ? ORDER BY score DESC LIMIT ?",
            (TITLE_WEIGHT, " OR ".join(map(prefix, words)), low, high, CANDIDATES),
        )
        found: dict[int, tuple[_Document, dict[int, float]]] = {}
        for rowid, score in rows:
            position = self._position(rowid)
            document, places = found.setdefault(position, (self._order[position], {}))
            for place in range(*document.windows[rowid - document.base]):
                places[place] = max(score, places.get(place, 0.0))
        return list(found.values())

    def _position(self, rowid: int) -> int:
        return bisect_right(self._order, rowid, key=lambda document: document.base) - 1

    def _match(self, document: _Document, place: int, needles: dict[str, str]) -> dict[str, float]:
        """Return how well each word matches a paragraph, 0 to 1; a heading counts for less."""
        paragraph = document.paragraphs[place]
        body = self._stemmed(paragraph.text)
        head = self._stemmed(f"{document.title} {' '.join(paragraph.headings)}")
        matched = {}
        for word, needle in needles.items():
            count = body.count(needle)
            share = max(count / (count + 0.4), 0.5 if needle in head else 0.0)
            if share:
                matched[word] = share
        return matched

    def _passages(self, places: list[_Place], weights: dict[str, float], limit: int) -> list[Hit]:
        """Return the best places, each with its neighbours, none of them twice."""
        taken: defaultdict[Path, set[int]] = defaultdict(set)
        hits: list[Hit] = []
        for each in places:
            if len(hits) == limit or each.score < NEAR * places[0].score:
                break
            path, paragraphs = each.document.path, each.document.paragraphs
            used = taken[path]
            if each.place in used:
                continue
            span = _span(each, used)
            matched = {word for at in span for word in each.matches.get(at, ())}
            if not _answers(weights, matched):
                continue
            used.update(span)
            run = paragraphs[span.start : span.stop]
            hits.append(Hit(path, run, paragraphs[each.place], each.score))
        return hits

    def _weights(self, words: Sequence[str]) -> dict[str, float]:
        """Return how telling each word is: its inverse document frequency."""
        weights = {}
        for word in words:
            count = self._db.execute(
                "SELECT count(*) FROM passage WHERE passage MATCH ?", (prefix(word),)
            ).get
            weights[word] = math.log(1 + (self._windows + 2) / (count + 0.5))
        return weights

    def _stem(self, text: str) -> str:
        """Return the text as the index sees it: stems between blanks, one before and one behind."""
        stems = self._tokenizer(
            indexable(text).encode(),
            apsw.FTS5_TOKENIZE_DOCUMENT,
            None,
            include_offsets=False,
            include_colocated=False,
        )
        return f" {' '.join(map(str, stems))} "


def _answers(weights: dict[str, float], matched: set[str]) -> bool:
    """Return whether the matched words are enough of the question, by weight or by number."""
    # The heaviest words only: nobody answers all of a page of text.
    total = sum(sorted(weights.values())[-HEAVIEST:])
    weight = sum(weights[word] for word in matched)
    return weight >= COVER * total or len(matched) >= MANY * min(len(weights), HEAVIEST)


def _span(each: _Place, used: set[int]) -> range:
    """Return the place and the neighbours in its section that match too, up to a readable size."""
    paragraphs, place = each.document.paragraphs, each.place
    size = len(paragraphs[place].text)
    first, last = place, place
    for _ in range(WINDOW):
        for at in (last + 1, first - 1):
            if (
                each.matches.get(at)
                and at not in used
                and paragraphs[at].headings == paragraphs[place].headings
                and size + len(paragraphs[at].text) <= PASSAGE_CHARS
            ):
                size += len(paragraphs[at].text)
                first, last = min(first, at), max(last, at)
    return range(first, last + 1)


def _windows(paragraphs: Sequence[Paragraph]) -> list[tuple[int, int]]:
    """Return where windows begin and end: overlapping, and never across a heading.

    Across headings, the words of the next section would speak for this one.
    """
    windows = []
    sections = groupby(range(len(paragraphs)), lambda at: paragraphs[at].headings)
    for _, section in sections:
        first, *rest = section
        end = first + 1 + len(rest)
        starts = range(first, max(first + 1, end - WINDOW + STRIDE), STRIDE)
        windows += [(at, min(at + WINDOW, end)) for at in starts]
    return windows
