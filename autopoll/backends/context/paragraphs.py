"""Cuts a text into paragraphs that know their lines and their headings; pure."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from autopoll.backends.context.formats import cutter
from autopoll.backends.context.formats.block import Block, BlockKind

WINDOW_CHARS = 1600  # of a section that is indexed as a whole
MAX_CHARS = 900  # of one paragraph; longer blocks are cut at a line or a sentence

_SENTENCE_END = re.compile("[.!?;:]\\s+|[\u3002\uff01\uff1f]\\s*")  # the latter: CJK marks
_SPACE = re.compile(r"\s+")


class Paragraph(NamedTuple):
    """Lines `first` to `last` (from 1, both included) and the headings they stand under.

    `lead` is what is shown above a piece of a longer table: its head.
    """

    first: int
    last: int
    headings: tuple[str, ...]
    text: str
    kind: BlockKind = BlockKind.PARAGRAPH
    lead: str = ""


def cut(text: str, suffix: str) -> list[Paragraph]:
    """Return the paragraphs of a text in order; the file's suffix says its format.

    A heading belongs to the paragraph that follows it; a list item is a paragraph of its own; code
    is never cut at its empty lines. Only what is over the limit is cut within a block.
    """
    # Not splitlines: form feeds and the like are no line ends to an editor or a reader.
    raw = [line.rstrip("\r") for line in text.split("\n")]
    lines, blocks = cutter(suffix)(raw)
    return [piece for block in blocks for piece in _within_limit(block, lines)]


def windows(paragraphs: Sequence[Paragraph]) -> Iterator[range]:
    """Yield the sections, the long ones in windows of which each begins within the one before."""
    for section in _sections(paragraphs):
        first = section.start
        while True:
            end = _reach(paragraphs, first, section.stop, WINDOW_CHARS)
            yield range(first, end)
            if end == section.stop:
                break
            middle = _reach(paragraphs, first, end, WINDOW_CHARS // 2)
            first = max(middle, first + 1)


def _reach(paragraphs: Sequence[Paragraph], first: int, stop: int, limit: int) -> int:
    """Return where the run of paragraphs from `first` ends that has at most `limit` characters."""
    size, at = 0, first
    while at < stop and (at == first or size + len(paragraphs[at].text) <= limit):
        size += len(paragraphs[at].text)
        at += 1
    return at


def _sections(paragraphs: Sequence[Paragraph]) -> Iterator[range]:
    """Yield the runs of paragraphs that stand under the same headings."""
    for _, run in groupby(range(len(paragraphs)), lambda at: paragraphs[at].headings):
        first, *rest = run
        yield range(first, first + 1 + len(rest))


def _within_limit(block: Block, lines: Sequence[str]) -> Iterator[Paragraph]:
    """Yield a block as it is, or in pieces when it is over the limit."""
    end = block.end
    while end > block.first and not lines[end - 1].strip():
        end -= 1
    lead = ""
    for first, last, text in _pieces(block.first, end, lines):
        yield Paragraph(first + 1, last, block.headings, text, block.kind, lead)
        if block.kind is BlockKind.TABLE and not lead:
            lead = _table_head(lines, block, last)


def _pieces(first: int, end: int, lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    size = 0
    for index in range(first, end):
        length = len(lines[index]) + 1
        if size and size + length > MAX_CHARS:
            yield first, index, "\n".join(lines[first:index])
            first, size = index, 0
        if length > MAX_CHARS:
            for piece in _sentences(lines[index]):
                yield index, index + 1, piece
            first, size = index + 1, 0
        else:
            size += length
    if first < end:
        yield first, end, "\n".join(lines[first:end])


def _table_head(lines: Sequence[str], block: Block, end: int) -> str:
    """Return the lines of a table up to the border below its head."""
    for at in range(block.body + 1, end):
        if lines[at].strip() and not lines[at].strip(" |+-=:"):
            head = "\n".join(lines[block.body : at + 1])
            return head if len(head) < MAX_CHARS else ""
    return ""


def _sentences(line: str) -> Iterator[str]:
    """Yield a long line in pieces within the limit, broken after a sentence where there is one."""
    at = 0
    while len(line) - at > MAX_CHARS:
        stop = at + MAX_CHARS
        for end in (_SENTENCE_END, _SPACE):
            if breaks := [found.end() for found in end.finditer(line, at + MAX_CHARS // 2, stop)]:
                stop = breaks[-1]
                break
        yield line[at:stop].rstrip()
        at = stop
    if line[at:].strip():
        yield line[at:]
