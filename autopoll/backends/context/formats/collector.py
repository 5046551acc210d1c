"""Collects lines into blocks while a format is read line by line."""

from collections.abc import Iterator

from autopoll.backends.context.formats.block import Block, BlockKind, Outline


class BlockCollector:
    """The block that is being read, and the headings it stands under.

    A heading belongs to the block that follows it; a section without a text is a block of its own.
    """

    def __init__(self) -> None:
        self.outline = Outline()
        self._first: int | None = None  # of the block being read
        self._titles: tuple[str, ...] = ()  # that it stands under
        self._is_bare = False  # nothing but headings in it yet

    @property
    def in_text(self) -> bool:
        """Whether a block is being read that has more than headings."""
        return self._first is not None and not self._is_bare

    def heading(self, first: int, level: int, title: str) -> Iterator[Block]:
        """Begin a section on a line."""
        above = self.outline.titles()
        self.outline.close(level)
        if self._first is not None and (not self._is_bare or above != self.outline.titles()):
            yield from self.end(first)
        self.outline.open(level, title)
        if self._first is None:
            self._first, self._is_bare = first, True
        self._titles = self.outline.titles()

    def leave(self, index: int, level: int) -> Iterator[Block]:
        """End the sections of a level and below, before a line."""
        before = self.outline.titles()
        self.outline.close(level)
        if before != self.outline.titles():
            yield from self.end(index)

    def line(self, index: int) -> None:
        """Add a line that is not empty to the block being read, or begin one with it."""
        if self._first is None:
            self._first, self._titles = index, self.outline.titles()
        self._is_bare = False

    def blank(self, index: int) -> Iterator[Block]:
        """End the block being read at an empty line; headings wait for what follows them."""
        if self.in_text:
            yield from self.end(index)

    def end(self, index: int) -> Iterator[Block]:
        """End the block being read before a line."""
        if self._first is not None:
            yield Block(self._first, index, self._titles)
        self._first, self._is_bare = None, False

    def whole(self, first: int, end: int, kind: BlockKind) -> Iterator[Block]:
        """Add lines that belong together, empty ones among them, as one block.

        Headings that wait for a text stand above it.
        """
        if self.in_text:
            yield from self.end(first)
        at = first if self._first is None else self._first
        self._first, self._is_bare = None, False
        yield Block(at, end, self.outline.titles(), kind, first)
