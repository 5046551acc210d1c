"""A document of the index, with the sections it is found by."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from autopoll.backends.context.paragraphs import Paragraph
from autopoll.backends.context.terms import indexable


class IndexedDocument(NamedTuple):
    """Paragraphs and sections of a file; its sections have the rowids from `base` on."""

    path: Path
    base: int
    title: str
    paragraphs: list[Paragraph]
    sections: list[range]  # of paragraphs

    @property
    def end(self) -> int:
        """The rowid behind its last section."""
        return self.base + len(self.sections)

    def columns(self, section: range) -> tuple[str, str, str]:
        """Return what is indexed of a section: its heading, what stands above it, and its text."""
        headings = self.headings(section)
        above = " ".join([self.title, *headings[:-1]])
        body = "\n".join(self.paragraphs[at].text for at in section)
        return indexable(" ".join(headings[-1:])), indexable(above), indexable(body)

    def text(self, section: range) -> str:
        """Return all that a section says, for a look at where its words stand."""
        texts = (self.paragraphs[at].text for at in section)
        return "\n".join([*self.headings(section), *texts])

    def headings(self, section: range) -> tuple[str, ...]:
        """Return the headings that a section stands under, outermost first."""
        return self.paragraphs[section.start].headings

    def named(self) -> Iterator[tuple[int, str]]:
        """Yield the heading of each section, with the rowid of its first piece."""
        before: tuple[str, ...] = ()
        for rowid, section in enumerate(self.sections, self.base):
            headings = self.headings(section)
            if headings and headings != before:
                yield rowid, headings[-1]
            before = headings
