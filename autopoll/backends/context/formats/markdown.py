"""Markdown: a heading is one only outside of code, and code, tables and lists are kept whole."""

import re
from collections.abc import Iterator, Sequence

from autopoll.backends.context.formats.block import Block, BlockKind
from autopoll.backends.context.formats.collector import BlockCollector

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*")
_FENCE = re.compile(r"\s*(?:[-*+]\s+|\d{1,9}[.)]\s+)?(`{3,}(?=[^`]*$)|~{3,})")
_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])(?:\s|$)")
_TOP_ITEM = re.compile(r" {0,1}(?:[-*+]|\d{1,9}[.)])\s+\S")
_DELIMITER = re.compile(r" {0,3}\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*")
_CODE = re.compile(r"(?: {4}| {0,3}\t)")
_RULE = re.compile(r" {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})")
_FRONT = ("---", "+++")


def cut(lines: Sequence[str]) -> tuple[Sequence[str], Iterator[Block]]:
    """Return the lines, and their blocks."""
    return lines, blocks(lines, BlockCollector())


def blocks(
    lines: Sequence[str], collector: BlockCollector, first: int = 0, end: int | None = None
) -> Iterator[Block]:
    """Yield the blocks of some of the lines."""
    end = len(lines) if end is None else end
    index = first
    if index == 0 and (front := _front_matter(lines)):
        yield from collector.whole(0, front, BlockKind.FRONT_MATTER)
        index = front
    in_list = False
    while index < end:
        line = lines[index]
        if not line.strip():
            yield from collector.blank(index)
            index += 1
        elif stop := _fenced(lines, index, end):
            # Right below its introduction it belongs to that; after an empty line it is by itself.
            if collector.in_text:
                collector.line(index)
                yield from collector.end(stop)
            else:
                yield from collector.whole(index, stop, BlockKind.CODE)
            index = stop
        elif line.lstrip().startswith("<!--"):
            stop = _comment(lines, index, end)
            for number in range(index, stop):
                collector.line(number)
            index = stop
        elif not in_list and not collector.in_text and _CODE.match(line):
            stop = _indented(lines, index, end)
            yield from collector.whole(index, stop, BlockKind.CODE)
            index = stop
        elif found := _ATX.fullmatch(line):
            yield from collector.heading(index, len(found[1]), (found[2] or "").strip())
            index, in_list = index + 1, False
        elif _is_title(lines, index, end, collector):
            level = 1 if lines[index + 1].lstrip().startswith("=") else 2
            yield from collector.heading(index, level, line.strip())
            index, in_list = index + 2, False
        elif not in_list and (stop := _table(lines, index, end)):
            yield from collector.whole(index, stop, BlockKind.TABLE)
            index = stop
        else:
            if _TOP_ITEM.match(line) and not _RULE.fullmatch(line):
                yield from collector.blank(index)  # an item is a block of its own
            if _ITEM.match(line):
                in_list = True
            elif not line[0].isspace() and not collector.in_text:
                in_list = False
            collector.line(index)
            index += 1
    yield from collector.end(end)


def _front_matter(lines: Sequence[str]) -> int:
    """Return where the front matter ends, 0 without any."""
    if not lines or lines[0].rstrip() not in _FRONT:
        return 0
    for index in range(1, len(lines)):
        if lines[index].rstrip() in (lines[0].rstrip(), "..."):
            return index + 1
    return 0


def _fenced(lines: Sequence[str], index: int, end: int) -> int:
    """Return where the fenced block that begins on a line ends, 0 when none does."""
    opened = _FENCE.match(lines[index])
    if opened is None:
        return 0
    mark = opened[1]
    for at in range(index + 1, end):
        line = lines[at].strip()
        if line.startswith(mark) and not line.strip(mark[0]):
            return at + 1
    return end


def _comment(lines: Sequence[str], index: int, end: int) -> int:
    for at in range(index, end):
        if "-->" in lines[at]:
            return at + 1
    return end


def _indented(lines: Sequence[str], index: int, end: int) -> int:
    """Return where the indented code ends that begins on a line."""
    stop = index + 1
    for at in range(index + 1, end):
        if _CODE.match(lines[at]) and lines[at].strip():
            stop = at + 1
        elif lines[at].strip():
            break
    return stop


def _is_title(lines: Sequence[str], index: int, end: int, collector: BlockCollector) -> bool:
    return (
        index + 1 < end
        and not collector.in_text
        and not _ITEM.match(lines[index])
        and not _RULE.fullmatch(lines[index])
        and "|" not in lines[index]
        and _UNDERLINE.fullmatch(lines[index + 1]) is not None
    )


def _table(lines: Sequence[str], index: int, end: int) -> int:
    """Return where the table ends that begins on a line, 0 when none does."""
    if "|" not in lines[index] or index + 1 >= end or not _DELIMITER.fullmatch(lines[index + 1]):
        return 0
    if "|" not in lines[index + 1] and "-" not in lines[index + 1]:
        return 0
    stop = index + 2
    while stop < end and lines[stop].strip() and "|" in lines[stop]:
        stop += 1
    return stop
