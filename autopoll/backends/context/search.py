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
from pathlib import Path
from typing import NamedTuple

import apsw

from autopoll.backends.context import ranking
from autopoll.backends.context.formats.block import BlockKind
from autopoll.backends.context.paragraphs import Paragraph, windows
from autopoll.backends.context.passages import answers, best_passage, weight
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
HEAD_WEIGHT = 2.0  # of a word in the heading, over one elsewhere
CLOSER = 20  # sections of which the best passage is looked for
OWN_WEIGHT = 2.0  # of what the passage matches by itself, over what its section does
NEAR = 0.4  # of the best passage's score, below which a further one is noise
REMEMBERED = 2048  # texts whose stems are kept, because questions come back to the same ones

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
    base: int  # rowid of its first section
    title: str
    paragraphs: list[Paragraph]
    sections: list[range]  # of paragraphs

    @property
    def end(self) -> int:
        return self.base + len(self.sections)


class _Found(NamedTuple):
    document: _Document
    section: range
    score: float


class _SearchedQuestion:
    """A question as the index sees it."""

    def __init__(self, text: str, weights: Mapping[str, float], stem: Mapping[str, str]) -> None:
        self.weights = weights
        self.stem = stem  # of each word
        self.stem_weights = {stem[word].strip(): weight for word, weight in weights.items()}
        self.stems = list(self.stem_weights)
        self.in_words = ranking.asks(text)
        self.asks_how = ranking.asks_how(text)


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
        self._documents: dict[Path, _Document] = {}
        self._order: list[_Document] = []  # by rowid; rowids are never used twice
        self._by_heading: defaultdict[str, set[int]] = defaultdict(set)  # rowids
        self._next = 1
        self._count = 0  # of sections

    def put(self, path: Path, title: str, paragraphs: list[Paragraph]) -> None:
        """Index a document, in place of the one of that path."""
        self.drop(path)
        if not paragraphs:
            return
        document = _Document(path, self._next, title, paragraphs, list(windows(paragraphs)))
        with self._db:
            self._db.executemany(
                "INSERT INTO section(rowid, head, above, body) VALUES (?, ?, ?, ?)",
                (
                    (rowid, *_columns(document, section))
                    for rowid, section in enumerate(document.sections, document.base)
                ),
            )
        for rowid, heading in _headings(document):
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
        for rowid, heading in _headings(document):
            self._by_heading[self._key(heading)].discard(rowid)
        self._count -= len(document.sections)
        del self._order[self._position(document.base)]

    def search(self, question: str, limit: int, only: Path | None = None) -> list[Hit]:
        """Return up to `limit` passages, best first; of one document when `only` names it."""
        weights = self._weights(terms(question))
        if not weights:
            return []
        asked = _SearchedQuestion(
            question, weights, {word: self._stem_of(word) for word in weights}
        )
        found = [
            _Found(document, section, self._score(document, section, score, asked))
            for document, section, score in self._candidates(question, weights, only)
        ]
        found.sort(key=lambda each: (-each.score, each.document.base, each.section.start))
        taken: defaultdict[Path, set[int]] = defaultdict(set)  # paragraphs, by document
        named = self._passages(self._named(question, only, found), asked, taken)
        hits = sorted(self._passages(found[:CLOSER], asked, taken), key=lambda hit: -hit.score)
        near = [hit for hit in hits if hit.score >= NEAR * hits[0].score]
        return [*named, *near][:limit]

    def check(self) -> None:
        """Run a trivial query; raise apsw.Error when the index cannot be searched."""
        self._db.execute("SELECT count(*) FROM section WHERE section MATCH '\"a\"'").fetchall()

    def close(self) -> None:
        """Give the memory back."""
        self._db.close()

    def _candidates(
        self, question: str, weights: Mapping[str, float], only: Path | None
    ) -> Iterator[tuple[_Document, range, float]]:
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
            yield *self._section(rowid), score

    def _section(self, rowid: int) -> tuple[_Document, range]:
        document = self._order[self._position(rowid)]
        return document, document.sections[rowid - document.base]

    def _position(self, rowid: int) -> int:
        return bisect_right(self._order, rowid, key=lambda document: document.base) - 1

    def _score(
        self, document: _Document, section: range, score: float, asked: _SearchedQuestion
    ) -> float:
        """Return what a section counts, by what its words count and by what else decides."""
        text = self._stemmed(_text(document, section)).split()
        score *= 1 + ranking.NEARNESS * ranking.nearness(asked.stems, asked.stem_weights, text)
        head = self._stemmed(" ".join(document.paragraphs[section.start].headings[-1:])).split()
        score *= 1 + ranking.HEADING * ranking.likeness(asked.stem_weights, set(head) - self._stop)
        if ranking.is_news(document.title):
            score *= ranking.OLD_NEWS
        elif asked.in_words and ranking.is_guide(document.title):
            score *= ranking.GUIDE
        kinds = {document.paragraphs[at].kind for at in section}
        if asked.asks_how and BlockKind.CODE in kinds:
            score *= ranking.CODE
        return score

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
            heading = each.document.paragraphs[each.section.start].headings[-1]
            is_other = not _is_same(heading, question)
            is_news = ranking.is_news(each.document.title)
            return is_other, is_news, -each.score, each.document.base + each.section.start

        return sorted(named, key=order)

    def _passages(
        self, found: Sequence[_Found], asked: _SearchedQuestion, taken: Mapping[Path, set[int]]
    ) -> list[Hit]:
        """Return the best passage of each section, of what is not taken yet."""
        hits: list[Hit] = []
        for each in found:
            document, used = each.document, taken[each.document.path]
            paragraphs = document.paragraphs
            matches = {at: self._match(document, at, asked) for at in each.section}
            span, own = best_passage(paragraphs, each.section, matches, asked.weights, used)
            matched = {word for at in span for word in matches[at]}
            if not answers(asked.weights, matched):
                continue
            used.update(span)
            run = paragraphs[span.start : span.stop]
            best = max(span, key=lambda at: (weight(matches[at], asked.weights), -at))
            hits.append(Hit(document.path, run, paragraphs[best], each.score + OWN_WEIGHT * own))
        return hits

    def _match(self, document: _Document, at: int, asked: _SearchedQuestion) -> dict[str, float]:
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
            indexable(text).encode(),
            apsw.FTS5_TOKENIZE_DOCUMENT,
            None,
            include_offsets=False,
            include_colocated=False,
        )
        return f" {' '.join(map(str, stems))} "


def _is_same(heading: str, question: str) -> bool:
    """Return whether a heading is the question word for word."""
    return heading.casefold().split() == question.casefold().split()


def _columns(document: _Document, section: range) -> tuple[str, str, str]:
    headings = document.paragraphs[section.start].headings
    above = " ".join([document.title, *headings[:-1]])
    body = "\n".join(document.paragraphs[at].text for at in section)
    return indexable(" ".join(headings[-1:])), indexable(above), indexable(body)


def _text(document: _Document, section: range) -> str:
    """Return all that a section says, for a look at where its words stand."""
    headings = document.paragraphs[section.start].headings
    return "\n".join([*headings, *(document.paragraphs[at].text for at in section)])


def _headings(document: _Document) -> Iterator[tuple[int, str]]:
    """Yield the heading of each section, with the rowid of its first piece."""
    before: tuple[str, ...] = ()
    for rowid, section in enumerate(document.sections, document.base):
        headings = document.paragraphs[section.start].headings
        if headings and headings != before:
            yield rowid, headings[-1]
        before = headings
