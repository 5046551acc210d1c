"""A full-text index of sections: SQLite FTS5 finds, a closer look at the best decides.

What is indexed are sections, because an answer seldom has all the words of its question in one
paragraph: the heading has one, the sentence before another. A section whose heading is the question
comes first. What is returned is narrower: the paragraph of a section that matches best, with those
of its neighbours that match too.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import apsw

from autopoll.backends.context import ranking
from autopoll.backends.context.indexed_document import IndexedDocument
from autopoll.backends.context.paragraphs import Paragraph, windows
from autopoll.backends.context.passages import best_passage, weight
from autopoll.backends.context.searched_question import SearchedQuestion
from autopoll.backends.context.terms import (
    MAX_CHARS,
    STOP,
    identifiers,
    indexable,
    prefix,
    quoted,
    terms,
)

CANDIDATES = 40  # sections that get the closer look
CLOSER = 25  # of these, in which the best passage is looked for
HEAD_WEIGHT = 2.0  # of a word in the heading, over one elsewhere
NEAR = 0.4  # of the best passage's score, below which a further one is noise
MAX_PAIRS = 96  # words of a question whose neighbours are looked for
REMEMBERED = 2048  # texts whose stems are kept, because questions come back to the same ones

# Letters, digits and the marks that are the vowels of many scripts make up a word.
_TOKENIZE = ("porter", "unicode61", "remove_diacritics", "2", "categories", "L* N* Co M*")


class Hit(NamedTuple):
    """A passage that may answer: consecutive paragraphs of one document, `best` among them."""

    path: Path
    paragraphs: Sequence[Paragraph]
    best: Paragraph
    score: float


class _Found(NamedTuple):
    document: IndexedDocument
    section: range
    score: float


class Index:
    """Documents cut into paragraphs, searchable by question. Not safe across threads."""

    def __init__(self) -> None:
        self._db = apsw.Connection(":memory:")
        self._db.execute(
            "CREATE VIRTUAL TABLE section USING fts5(head, above, body, content='', "
            f"""contentless_delete=1, tokenize="{" ".join(map(repr, _TOKENIZE))}")"""
        )
        self._tokenizer = self._db.fts5_tokenizer(_TOKENIZE[0], list(_TOKENIZE[1:]))
        self._stemmed = lru_cache(REMEMBERED)(self._stem)
        self._stop = frozenset(self._stem(" ".join(STOP)).split())
        self._documents: dict[Path, IndexedDocument] = {}
        self._order: list[IndexedDocument] = []  # by rowid; rowids are never used twice
        self._by_heading: defaultdict[str, set[int]] = defaultdict(set)  # rowids
        self._next = 1
        self._count = 0  # of sections

    def put(self, path: Path, title: str, paragraphs: list[Paragraph]) -> None:
        """Index a document, in place of the one of that path."""
        self.drop(path)
        if not paragraphs:
            return
        document = IndexedDocument(path, self._next, title, paragraphs, list(windows(paragraphs)))
        with self._db:
            self._db.executemany(
                "INSERT INTO section(rowid, head, above, body) VALUES (?, ?, ?, ?)",
                (
                    (rowid, *document.columns(section))
                    for rowid, section in enumerate(document.sections, document.base)
                ),
            )
        for rowid, heading in document.named():
            self._by_heading[self._key(heading)].add(rowid)
        self._next = document.end
        self._count += len(document.sections)
        self._documents[path] = document
        self._order.append(document)

    def drop(self, path: Path) -> None:
        """Forget a document; tolerated when there is none."""
        document = self._documents.pop(path, None)
        if document is None:
            return
        with self._db:
            self._db.execute(
                "DELETE FROM section WHERE rowid >= ? AND rowid < ?", (document.base, document.end)
            )
        for rowid, heading in document.named():
            self._by_heading[self._key(heading)].discard(rowid)
        self._count -= len(document.sections)
        del self._order[self._position(document.base)]

    def search(
        self, question: str, limit: int, only: Path | None = None, *, weak: bool = False
    ) -> list[Hit]:
        """Return up to `limit` passages, best first; of one document when `only` names it.

        None when not even the best has enough of the question, unless `weak` ones will do.
        """
        weights = self._weights(terms(question))
        if not weights:
            return []
        stem = {word: self._stem_of(word) for word in weights}
        asked = SearchedQuestion(question, weights, stem, self._pairs(question))
        found = [
            each._replace(score=self._score(each, asked))
            for each in self._candidates(question, weights, only)
        ]
        found.sort(key=lambda each: (-each.score, each.document.base, each.section.start))
        named = self._passages(self._named(question, only, found), asked)
        least = 0.0 if weak else asked.least
        return list(islice(_apart([*named, *self._answers(found, asked, least)]), limit))

    def check(self) -> None:
        """Run a trivial query; raise apsw.Error when the index cannot be searched."""
        self._db.execute("SELECT count(*) FROM section WHERE section MATCH '\"a\"'").fetchall()

    def close(self) -> None:
        """Give the memory back."""
        self._db.close()

    def _candidates(
        self, question: str, weights: Mapping[str, float], only: Path | None
    ) -> Iterator[_Found]:
        """Yield the sections that match best by their words, with their score."""
        document = None if only is None else self._documents.get(only)
        if only is not None and document is None:
            return
        low, high = (0, self._next) if document is None else (document.base, document.end)
        wanted = [
            quoted(word) if self._frequency(quoted(word)) else prefix(word) for word in weights
        ]
        wanted += [quoted(name) for name in identifiers(question)]
        rows = self._db.execute(
            "SELECT rowid, -bm25(section, ?, 1.0, 1.0) AS score FROM section WHERE section MATCH ? "
            "AND rowid >= ? AND rowid < ? ORDER BY score DESC LIMIT ?",
            (HEAD_WEIGHT, " OR ".join(wanted), low, high, CANDIDATES),
        )
        for rowid, score in rows:
            yield _Found(*self._section(rowid), score)

    def _section(self, rowid: int) -> tuple[IndexedDocument, range]:
        document = self._order[self._position(rowid)]
        return document, document.sections[rowid - document.base]

    def _position(self, rowid: int) -> int:
        return bisect_right(self._order, rowid, key=lambda document: document.base) - 1

    def _score(self, each: _Found, asked: SearchedQuestion) -> float:
        document, section = each.document, each.section
        text = self._stemmed(document.text(section)).split()
        heading = self._stemmed(" ".join(document.headings(section)[-1:])).split()
        return asked.section_score(each.score, set(heading) - self._stop, text)

    def _named(self, question: str, only: Path | None, found: Sequence[_Found]) -> list[_Found]:
        """Return the sections whose heading is the question, best first."""
        scores = {(each.document.base, each.section.start): each.score for each in found}
        named = []
        for rowid in self._by_heading.get(self._key(question), ()):
            document, section = self._section(rowid)
            if only is None or document.path == only:
                score = scores.get((document.base, section.start), 0.0)
                named.append(_Found(document, section, score))

        def order(each: _Found) -> tuple[bool, bool, float, int]:
            heading = each.document.headings(each.section)[-1]
            is_other = not _is_same(heading, question)
            is_news = ranking.is_news(each.document.title)
            return is_other, is_news, -each.score, each.document.base + each.section.start

        return sorted(named, key=order)

    def _answers(self, found: Sequence[_Found], asked: SearchedQuestion, least: float) -> list[Hit]:
        """Return the passages that answer, best first; none when not even the best has `least`."""
        hits = self._passages(found[:CLOSER], asked)
        if not any(hit.score >= least for hit in hits):
            return []
        hits = sorted((self._weighed(hit, asked) for hit in hits), key=lambda hit: -hit.score)
        return [hit for hit in hits if hit.score >= NEAR * hits[0].score]

    def _passages(self, found: Sequence[_Found], asked: SearchedQuestion) -> list[Hit]:
        """Return the best passage of each section that has one."""
        hits: list[Hit] = []
        for each in found:
            document, paragraphs = each.document, each.document.paragraphs
            matches = {at: self._match(document, at, asked) for at in each.section}
            span = best_passage(paragraphs, each.section, matches, asked.weights)
            if not span:
                continue
            run = paragraphs[span.start : span.stop]
            best = max(span, key=lambda at: (weight(matches[at], asked.weights), -at))
            text = " ".join(self._stemmed(paragraph.text) for paragraph in run).split()
            score = each.score + asked.passage_score(run, text)
            hits.append(Hit(document.path, run, paragraphs[best], score))
        return hits

    def _weighed(self, hit: Hit, asked: SearchedQuestion) -> Hit:
        """Return a passage with a score that counts what it is, beside what it says."""
        title = self._documents[hit.path].title
        return hit._replace(score=hit.score * asked.standing(title, hit.paragraphs))

    def _match(
        self, document: IndexedDocument, at: int, asked: SearchedQuestion
    ) -> dict[str, float]:
        """Return how well each word matches a paragraph, 0 to 1; a heading counts for less."""
        paragraph = document.paragraphs[at]
        body = self._stemmed(paragraph.text)
        head = self._stemmed(" ".join([document.title, *paragraph.headings]))
        matched = {}
        for word, stem in asked.stem.items():
            count = body.count(stem)
            share = max(count / (count + 0.4), 0.5 if stem in head else 0.0)
            if share:
                matched[word] = share
        return matched

    def _weights(self, words: Sequence[str]) -> dict[str, float]:
        """Return how telling each word is: its inverse document frequency."""
        weights = {}
        for word in words:
            count = self._frequency(self._expression(word))
            weights[word] = math.log(1 + (self._count + 2) / (count + 0.5))
        return weights

    def _pairs(self, question: str) -> list[tuple[str, str]]:
        """Return the neighbours in a question, as stems, of which one at least is telling."""
        stems = self._stem(question[:MAX_CHARS]).split()[:MAX_PAIRS]
        return [pair for pair in pairwise(stems) if not self._stop.issuperset(pair)]

    def _expression(self, word: str) -> str:
        """Return what finds a word; one that is nowhere finds longer words: large, larger."""
        return quoted(word) if self._frequency(quoted(word)) else prefix(word)

    def _frequency(self, expression: str) -> int:
        count: int = self._db.execute(
            "SELECT count(*) FROM section WHERE section MATCH ?", (expression,)
        ).get
        return count

    def _key(self, heading: str) -> str:
        """Return what two headings share that say the same: the stems of their telling words."""
        stems = set(self._stem(heading[:MAX_CHARS]).split())
        return " ".join(sorted((stems - self._stop) or stems))

    def _stem_of(self, word: str) -> str:
        """Return what stands for a word in a text of stems: a longer word may begin with it."""
        stem = self._stemmed(word)
        return stem if self._frequency(quoted(word)) else stem[:-1]

    def _stem(self, text: str) -> str:
        """Return the text as the index sees it: stems between blanks, one before and one behind."""
        stems = self._tokenizer(
            indexable(text).encode("utf-8", "replace"),  # lone surrogates
            apsw.FTS5_TOKENIZE_DOCUMENT,
            None,
            include_offsets=False,
            include_colocated=False,
        )
        return f" {' '.join(map(str, stems))} "


def _is_same(heading: str, question: str) -> bool:
    """Return whether a heading is the question word for word."""
    return heading.casefold().split() == question.casefold().split()


def _apart(hits: Sequence[Hit]) -> Iterator[Hit]:
    """Yield the passages but for those that share a paragraph with a better one."""
    taken: defaultdict[Path, set[Paragraph]] = defaultdict(set)
    for hit in hits:
        if taken[hit.path].isdisjoint(hit.paragraphs):
            taken[hit.path].update(hit.paragraphs)
            yield hit
