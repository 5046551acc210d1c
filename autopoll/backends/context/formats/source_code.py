"""Source code and everything else: what stands between empty lines, under its definition."""

import re
from collections.abc import Iterator, Sequence

from autopoll.backends.context.formats.block import Block, BlockKind

_DEFINITION = re.compile(
    r"\s*(?:(?:export|default|public|private|protected|static|final|abstract|async|pub|inline)\s+)*"
    r"(?:def|class|func|fn|function|interface|struct|enum|trait|impl|module|type)\s+\w[\w.<>]*"
)


def cut(lines: Sequence[str]) -> tuple[Sequence[str], Iterator[Block]]:
    """Return the lines, and their blocks."""
    return lines, _blocks(lines)


def _blocks(lines: Sequence[str]) -> Iterator[Block]:
    headings: tuple[str, ...] = ()
    first: int | None = None
    for index, line in enumerate([*lines, ""]):
        if not line.strip():
            if first is not None:
                yield Block(first, index, headings, BlockKind.CODE)
            first = None
        elif match := _DEFINITION.match(line):
            headings = (match[0].strip(),)
            first = index if first is None else first
        elif first is None:
            first = index
