"""HTML: its text, each word on the line where it stands in the file."""

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser

from autopoll.backends.context.formats.block import Block, BlockKind
from autopoll.backends.context.formats.collector import BlockCollector

_HIDDEN = frozenset({"head", "script", "style", "template", "nav", "noscript", "svg"})
_ENDS_BLOCK = re.compile(
    "address|article|aside|blockquote|body|dd|details|div|dl|dt|fieldset|figure|footer|form|h[1-6]"
    "|header|hr|html|li|main|ol|p|section|table|td|th|tr|ul"
)
_HEADING = re.compile("h[1-6]")
_WHOLE = {"pre": BlockKind.CODE, "table": BlockKind.TABLE}
_SPACE = re.compile(r"[ \t\u00a0]+")


class _HtmlRegion:
    """A heading, or lines that belong together."""

    def __init__(self, tag: str, first: int) -> None:
        self.tag, self.first, self.last = tag, first, first
        self.text = ""


class _HtmlText(HTMLParser):
    """Puts each word on the line where it stands, and notes where blocks end."""

    def __init__(self, count: int) -> None:
        super().__init__(convert_charrefs=True)
        self.lines = [""] * count
        self.ends: set[int] = set()  # lines before which a block ends
        self.regions: list[_HtmlRegion] = []
        self._open: list[_HtmlRegion] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _HIDDEN:
            self._hidden.append(tag)
        elif tag == "br":
            self._add(" ")
        elif (_HEADING.fullmatch(tag) or tag in _WHOLE) and not self._open:
            self._open.append(_HtmlRegion(tag, self._line()))
        if _ENDS_BLOCK.fullmatch(tag):
            self.ends.add(self._line())
            self._add(" ")

    def handle_endtag(self, tag: str) -> None:
        if self._hidden and tag == self._hidden[-1]:
            self._hidden.pop()
        elif self._open and tag == self._open[-1].tag:
            region = self._open.pop()
            region.last = self._line()
            self.regions.append(region)
        if _ENDS_BLOCK.fullmatch(tag):
            self.ends.add(self._line() + 1)
            self._add(" ")

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        if self._open:
            self._open[-1].text += data
        at = self._line()
        for number, part in enumerate(data.split("\n")):
            if at + number < len(self.lines):
                self.lines[at + number] += part

    def _line(self) -> int:
        return self.getpos()[0] - 1

    def _add(self, text: str) -> None:
        if not self._hidden and (at := self._line()) < len(self.lines):
            self.lines[at] += text


def cut(lines: Sequence[str]) -> tuple[Sequence[str], Iterator[Block]]:
    """Return the text of each line, and the blocks."""
    parser = _HtmlText(len(lines))
    parser.feed("\n".join(lines))
    parser.close()
    inside = {at for each in parser.regions for at in range(each.first, each.last + 1)}
    text = [
        line.rstrip() if at in inside else _SPACE.sub(" ", line).strip()
        for at, line in enumerate(parser.lines)
    ]
    return text, _blocks(text, parser)


def _blocks(lines: Sequence[str], parser: _HtmlText) -> Iterator[Block]:
    collector = BlockCollector()
    regions = {each.first: each for each in parser.regions}
    index = 0
    while index < len(lines):
        region = regions.get(index)
        if region and region.text.strip():
            yield from collector.blank(index)
            end = region.last + 1
            if region.tag in _WHOLE:
                yield from collector.whole(index, end, _WHOLE[region.tag])
            else:
                title = " ".join(region.text.split())
                yield from collector.heading(index, int(region.tag[1]), title)
            index = end
            continue
        if index in parser.ends or not lines[index].strip():
            yield from collector.blank(index)
        if lines[index].strip():
            collector.line(index)
        index += 1
    yield from collector.end(len(lines))
