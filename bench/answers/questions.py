"""Makes questions of documentation, each with the place that answers it."""

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import msgspec

from autopoll.backends.context.formats import restructured_text
from autopoll.backends.context.paragraphs import Paragraph, cut
from bench.answers.corpora import CorpusGroup, Document, documents, is_faq

HEADINGS, FAQ, UNANSWERABLE = "heading word for word", "FAQ, headings removed", "unanswerable"
SAMPLE = 300  # headings of a group
SEED = 17
_UNANSWERABLE = Path(__file__).with_name("unanswerable.tsv")
_ASKS = re.compile(
    r"(?:how|why|what|when|where|which|who|can|could|do|does|is|are|should|i)\b", re.I
)
_ADORNMENT = re.compile(r"([^\w\s])\1{2,}\s*")


class Place(msgspec.Struct, frozen=True):
    """Lines of a file, from 1, both included."""

    path: str
    first: int
    last: int

    def meets(self, other: "Place") -> bool:
        """Return whether the two have lines in common."""
        return self.path == other.path and self.first <= other.last and other.first <= self.last


class Question(msgspec.Struct, frozen=True):
    """A question, and the places of which each answers it; none when nothing does."""

    text: str
    places: tuple[Place, ...] = ()


class _Section(msgspec.Struct, frozen=True):
    heading: str
    place: Place


class QuestionSet(msgspec.Struct, frozen=True):
    """Questions, and the documents that are searched for their answers."""

    group: str
    name: str
    documents: Sequence[Document]
    questions: Sequence[Question]


def question_sets(group: CorpusGroup, cache: Path) -> list[QuestionSet]:
    """Return the three sets of a group: headings, FAQ without headings, and unanswerable ones."""
    whole: list[Document] = []
    faq: list[Document] = []
    asked: list[Question] = []
    for corpus in group.corpora:
        for document in documents(corpus, cache):
            whole.append(document)
            if is_faq(corpus, document):
                bare, questions = without_headings(document)
                faq.append(bare)
                asked += questions
    return [
        QuestionSet(group.name, HEADINGS, whole, headings(whole, SAMPLE)),
        QuestionSet(group.name, FAQ, faq, asked),
        QuestionSet(group.name, UNANSWERABLE, whole, unanswerable(group.name)),
    ]


def unanswerable(group: str) -> list[Question]:
    """Return the questions that no documentation of the group answers."""
    rows = [line.split("\t") for line in _UNANSWERABLE.read_text("utf-8").splitlines()]
    return [Question(text) for name, text in rows if name == group]


def headings(of: Sequence[Document], count: int) -> list[Question]:
    """Return so many headings of two words and more, as questions: the same ones each time."""
    places: dict[str, list[Place]] = {}
    for document in of:
        for section in _sections(document):
            places.setdefault(section.heading, []).append(section.place)
    asked = sorted(heading for heading in places if len(heading.split()) > 1)
    chosen = random.Random(SEED).sample(asked, min(count, len(asked)))
    return [Question(heading, tuple(places[heading])) for heading in chosen]


def without_headings(document: Document) -> tuple[Document, list[Question]]:
    """Return the file without the headings that are questions, on the same lines, and these."""
    lines = document.text.split("\n")
    asked = []
    for section in _sections(document):
        if section.heading.endswith("?") or _ASKS.match(section.heading):
            _take_out(lines, section)
            asked.append(Question(section.heading, (section.place,)))
    return Document(document.path, "\n".join(lines)), asked


def _sections(document: Document) -> Iterator[_Section]:
    """Yield the sections with the lines of what stands in them, those further in included."""
    paragraphs = cut(document.text, PurePath(document.path).suffix)
    before: tuple[str, ...] = ()
    for at, paragraph in enumerate(paragraphs):
        if paragraph.headings and paragraph.headings != before:
            last = _end(paragraphs, at)
            place = Place(document.path, paragraph.first, last)
            yield _Section(paragraph.headings[-1], place)
        before = paragraph.headings


def _end(paragraphs: Sequence[Paragraph], at: int) -> int:
    """Return the last line of the section that a paragraph begins."""
    own = paragraphs[at].headings
    last = paragraphs[at].last
    for paragraph in paragraphs[at + 1 :]:
        if paragraph.headings[: len(own)] != own:
            break
        last = paragraph.last
    return last


def _take_out(lines: list[str], section: _Section) -> None:
    """Empty the line of a heading, and what it is underlined with.

    It is the line with most of its words: markup may stand between them, and other headings above.
    """
    wanted = _words(section.heading)
    at = max(
        range(section.place.first - 1, section.place.last),
        key=lambda at: (len(wanted & _words(restructured_text.plain(lines[at]))), -at),
    )
    lines[at] = ""
    for beside in (at - 1, at + 1):
        if 0 <= beside < len(lines) and _ADORNMENT.fullmatch(lines[beside]):
            lines[beside] = ""


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))
