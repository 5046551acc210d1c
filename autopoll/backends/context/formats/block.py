"""A block of a text, as every format has it."""

import enum
from typing import NamedTuple


class BlockKind(enum.Enum):
    """What a block is; `FRONT_MATTER` is what a file says of itself before its text."""

    PARAGRAPH = "paragraph"
    CODE = "code"
    TABLE = "table"
    FRONT_MATTER = "front matter"


class Block(NamedTuple):
    """Lines `first` to `end` (from 0, without `end`) under headings, outermost first.

    Titles that wait for a text stand above it in the block, which itself begins at `body`.
    """

    first: int
    end: int
    headings: tuple[str, ...]
    kind: BlockKind = BlockKind.PARAGRAPH
    body: int = 0


class Outline:
    """The headings above a line, by level: a new one ends those of its level and below."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def open(self, level: int, title: str) -> None:
        """Begin a section."""
        self.close(level)
        self._open.append((level, title))

    def close(self, level: int) -> None:
        """End the sections of a level and below."""
        while self._open and self._open[-1][0] >= level:
            self._open.pop()

    def titles(self) -> tuple[str, ...]:
        """Return the headings above, outermost first."""
        return tuple(title for _, title in self._open)
