"""Cuts a text into paragraphs that know their lines and their heading; pure."""

import re
from collections.abc import Iterator
from typing import NamedTuple

PROSE = frozenset({"", ".md", ".markdown", ".mdx", ".rst", ".txt", ".adoc", ".org"})
MAX_CHARS = 900  # of one paragraph; longer blocks are cut at a line or a sentence

_ATX = re.compile(r" {0,3}(#{1,6})\s+(.*?)\s*#*\s*")
_UNDERLINE = re.compile(r" {0,3}(=+|-+|~+|\^+)\s*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ITEM = re.compile(r" {0,1}(?:[-*+]|\d{1,3}[.)])\s+\S")
_SENTENCE_END = re.compile("[.!?;:]\\s+|[\u3002\uff01\uff1f]\\s*")  # the latter: CJK marks
_SPACE = re.compile(r"\s+")
_ROW = re.compile(r" {0,3}\|")
_DEFINITION = re.compile(
    r"\s*(?:(?:export|default|public|private|protected|static|final|abstract|async|pub|inline)\s+)*"
    r"(?:def|class|func|fn|function|interface|struct|enum|trait|impl|module|type)\s+\w[\w.<>]*"
)


class Paragraph(NamedTuple):
    """Lines `first` to `last` (from 1, both included) and the headings they stand under."""

    first: int
    last: int
    headings: tuple[str, ...]
    text: str


def cut(text: str, suffix: str) -> list[Paragraph]:
    """Return the paragraphs of a text in order; the file's suffix separates prose from code.

    A heading belongs to the paragraph that follows it; a list item is a paragraph of its own, and
    so is a row of a table; a fenced block is never cut at its empty lines.
    """
    # Not splitlines: form feeds and the like are no line ends to an editor or a reader.
    lines = [line.rstrip("\r") for line in text.split("\n")]
    blocks = _prose(lines) if suffix.lower() in PROSE else _code(lines)
    return [piece for block in blocks for piece in _within_limit(block, lines)]


class _Block(NamedTuple):
    first: int  # index of its first line
    end: int  # index after its last line
    headings: tuple[str, ...]


def _prose(lines: list[str]) -> Iterator[_Block]:
    headings: list[tuple[int, str]] = []
    start: int | None = None  # of the block being read
    bare = False  # nothing but headings in it yet
    fence = ""
    for index, line in enumerate(lines):
        if fence:
            if line.strip().startswith(fence):
                fence = ""
            continue
        heading = _heading(lines, index)
        ends = not line.strip() or heading is not None or _begins_item(lines, index)
        if ends and start is not None and not bare:
            yield _Block(start, index, _titles(headings))
            start = None
        if heading is not None:
            level, title = heading
            if start is not None and headings and headings[-1][0] >= level:
                yield _Block(start, index, _titles(headings))  # a section without a text
                start = None
            headings = [above for above in headings if above[0] < level] + [(level, title)]
            start, bare = index if start is None else start, True
        elif line.strip():
            if not (bare and _is_underline(lines, index)):
                bare = False
            start = index if start is None else start
            opened = _FENCE.match(line)
            fence = opened[1] if opened else ""
    if start is not None:
        yield _Block(start, len(lines), _titles(headings))


def _begins_item(lines: list[str], index: int) -> bool:
    """Return whether a list item begins on that line, or a row below a table's head."""
    if _ROW.match(lines[index]):
        return index >= 3 and all(_ROW.match(line) for line in lines[index - 3 : index])
    return _ITEM.match(lines[index]) is not None


def _heading(lines: list[str], index: int) -> tuple[int, str] | None:
    """Return (level, title) when a heading begins on that line."""
    line = lines[index]
    if match := _ATX.fullmatch(line):
        return len(match[1]), match[2]
    after = lines[index + 1] if index + 1 < len(lines) else ""
    before = lines[index - 1] if index else ""
    if (
        line.strip()
        and not before.strip()
        and _ITEM.match(line) is None
        and len(after.strip()) >= max(3, len(line.strip()) // 2)
        and (match := _UNDERLINE.fullmatch(after))
    ):
        return (1 if match[1][0] == "=" else 2), line.strip()
    return None


def _is_underline(lines: list[str], index: int) -> bool:
    return (
        index > 0
        and _heading(lines, index - 1) is not None
        and bool(_UNDERLINE.fullmatch(lines[index]))
    )


def _titles(headings: list[tuple[int, str]]) -> tuple[str, ...]:
    return tuple(title for _, title in headings)


def _code(lines: list[str]) -> Iterator[_Block]:
    """Yield what stands between empty lines, under the definition it belongs to."""
    headings: tuple[str, ...] = ()
    start: int | None = None
    for index, line in enumerate([*lines, ""]):
        if not line.strip():
            if start is not None:
                yield _Block(start, index, headings)
            start = None
        elif match := _DEFINITION.match(line):
            headings = (match[0].strip(),)
            start = index if start is None else start
        elif start is None:
            start = index


def _within_limit(block: _Block, lines: list[str]) -> Iterator[Paragraph]:
    """Yield a block as it is, or in pieces when it is over the limit."""
    end = block.end
    while end > block.first and not lines[end - 1].strip():
        end -= 1
    first, size = block.first, 0
    for index in range(block.first, end):
        length = len(lines[index]) + 1
        if size and size + length > MAX_CHARS:
            yield Paragraph(first + 1, index, block.headings, "\n".join(lines[first:index]))
            first, size = index, 0
        if length > MAX_CHARS:
            for piece in _sentences(lines[index]):
                yield Paragraph(index + 1, index + 1, block.headings, piece)
            first, size = index + 1, 0
        else:
            size += length
    if first < end:
        yield Paragraph(first + 1, end, block.headings, "\n".join(lines[first:end]))


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
