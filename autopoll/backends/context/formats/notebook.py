"""Notebooks of Jupyter: the cells' sources, each line where it stands in the file.

A notebook that is not written a line of source a line, as nbformat does, is read as it stands.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from autopoll.backends.context.formats import markdown
from autopoll.backends.context.formats.block import Block, BlockKind
from autopoll.backends.context.formats.collector import BlockCollector

_TYPE = re.compile(r'\s*"cell_type":\s*"(\w+)",?\s*')
_SOURCE = re.compile(r'\s*"source":\s*\[\s*')
_END = re.compile(r"\s*\],?\s*")


def cut(lines: Sequence[str]) -> tuple[Sequence[str], Iterator[Block]]:
    """Return the sources' lines, and their blocks."""
    text, cells = [""] * len(lines), []
    kind, first = "", None
    for index, line in enumerate(lines):
        if first is not None:
            if _END.fullmatch(line):
                cells.append((kind, first, index))
                first = None
            else:
                text[index] = _string(line)
        elif found := _TYPE.fullmatch(line):
            kind = found[1]
        elif _SOURCE.fullmatch(line):
            first = index + 1
    if not cells:
        return lines, _as_it_stands(lines)
    return text, _blocks(text, cells)


def _blocks(lines: Sequence[str], cells: list[tuple[str, int, int]]) -> Iterator[Block]:
    collector = BlockCollector()
    for kind, first, end in cells:
        if kind == "markdown":
            yield from markdown.blocks(lines, collector, first, end)
        elif any(line.strip() for line in lines[first:end]):
            yield from collector.whole(first, end, BlockKind.CODE)
    yield from collector.end(len(lines))


def _as_it_stands(lines: Sequence[str]) -> Iterator[Block]:
    if any(line.strip() for line in lines):
        yield Block(0, len(lines), ())


def _string(line: str) -> str:
    """Return the line of source that a line of the file holds."""
    try:
        text = msgspec.json.decode(line.strip().removesuffix(","), type=str)
    except msgspec.MsgspecError:
        return line
    return text.replace("\n", " ").rstrip()
