"""reStructuredText, and text without a format: a title is underlined, in a style of its level."""

import re
from collections.abc import Iterator, Sequence

from autopoll.backends.context.formats.block import Block, BlockKind
from autopoll.backends.context.formats.collector import BlockCollector

_ADORNMENT = re.compile(r"([!-/:-@[-`{-~])\1+\s*")
_MARKUP = re.compile(r":[\w:+.-]+:`~?!?([^`<]*?)(?:\s*<[^>`]*>)?`|``?([^`]*)``?_{0,2}")
_DIRECTIVE = re.compile(r"(\s*)\.\. (?:[\w-]+:)?([\w-]+)::(?:\s+(.*))?$")
_ITEM = re.compile(r" {0,1}(?:[-*+]|\d{1,3}[.)]|#\.)\s+\S")
_SIMPLE_BORDER = re.compile(r"\s*=+(?: +=+)+\s*")
_GRID = re.compile(r"\s*\+[-=+]+\+\s*")
_CODE = re.compile(
    "code|code-block|sourcecode|parsed-literal|doctest|testcode|testoutput|highlight|prompt"
    "|productionlist|ipython|console"
)
# Directives that describe one thing by its name, as a heading does.
_OBJECTS = re.compile(
    "attribute|(?:class|static)?method|class|cmdoption|confval|data|decorator(?:method)?|describe"
    "|directive|enum|envvar|exception|fixture|function|macro|member|module|object|opcode|option"
    "|pdbcommand|property|rst|role|setting|struct|type|union|var|program-option"
    "|django-admin(?:-option)?"
)
_OBJECT_LEVEL = 100  # below every title; further in, the further the directive is indented


def cut(lines: Sequence[str]) -> tuple[Sequence[str], Iterator[Block]]:
    """Return the lines, and their blocks."""
    return lines, _blocks(lines)


def plain(text: str) -> str:
    """Return a title without its markup."""
    return _MARKUP.sub(lambda found: found[1] or found[2] or "", text).replace("\\", "")


def _blocks(lines: Sequence[str]) -> Iterator[Block]:
    collector = BlockCollector()
    styles: list[str] = []  # of titles, outermost first
    index, end = 0, len(lines)
    ends_literal = False  # the last line with a text ended in ::, so that code follows
    base = 0  # its indent
    while index < end:
        line = lines[index]
        if not line.strip():
            yield from collector.blank(index)
            index += 1
            continue
        indent = len(line) - len(line.lstrip())
        if ends_literal and indent > base and not collector.in_text:
            stop = _indented(lines, index, base)
            yield from collector.whole(index, stop, BlockKind.CODE)
            index, ends_literal = stop, False
            continue
        ends_literal = False
        if not collector.in_text:
            yield from collector.leave(index, _OBJECT_LEVEL + indent)
        if title := _title(lines, index):
            style, text, length = title
            if style not in styles:
                styles.append(style)
            yield from collector.heading(index, styles.index(style), text)
            index += length
        elif found := _DIRECTIVE.match(line):
            name = found[2].lower()
            if _OBJECTS.fullmatch(name) and found[3]:
                level = _OBJECT_LEVEL + indent
                yield from collector.heading(index, level, plain(found[3].strip()))
                index += 1
                while index < end and _names_another(lines[index], indent):
                    index += 1
            elif _CODE.fullmatch(name):
                stop = max(_indented(lines, index + 1, indent), index + 1)
                yield from collector.whole(index, stop, BlockKind.CODE)
                index = stop
            else:
                collector.line(index)
                index += 1
        elif not collector.in_text and (stop := _table(lines, index)):
            yield from collector.whole(index, stop, BlockKind.TABLE)
            index = stop
        else:
            if _ITEM.match(line):
                yield from collector.blank(index)
            collector.line(index)
            ends_literal, base = line.rstrip().endswith("::"), indent
            index += 1
    yield from collector.end(end)


def _title(lines: Sequence[str], index: int) -> tuple[str, str, int] | None:
    """Return the style, text and lines of the title that begins on a line, None without one."""
    line = lines[index]
    if index and lines[index - 1].strip():
        return None
    over = _ADORNMENT.fullmatch(line)
    if over and index + 2 < len(lines):
        text, under = lines[index + 1], lines[index + 2]
        if under.rstrip() == line.rstrip() and _fits(text.strip(), under):
            return f"{over[1]}over", plain(text.strip()), 3
    if over or line[0].isspace() or index + 1 >= len(lines) or _ITEM.match(line):
        return None
    under = lines[index + 1]
    if (found := _ADORNMENT.fullmatch(under)) and _fits(line.rstrip(), under):
        return found[1], plain(line.strip()), 2
    return None


def _fits(text: str, underline: str) -> bool:
    """Return whether a text is a title over its underline; of wide letters one counts as two."""
    length = len(underline.rstrip())
    return bool(text) and length >= 3 and length >= len(text) // 2 and not _is_border(text)


def _is_border(line: str) -> bool:
    return bool(_SIMPLE_BORDER.fullmatch(line) or _GRID.fullmatch(line))


def _names_another(line: str, indent: int) -> bool:
    """Return whether a line goes on with the names that a directive describes."""
    inner = len(line) - len(line.lstrip())
    return bool(line.strip()) and inner > indent and not line.lstrip().startswith(":")


def _indented(lines: Sequence[str], index: int, base: int) -> int:
    """Return where the lines end that are indented by more than `base`."""
    stop = index
    for at in range(index, len(lines)):
        line = lines[at]
        if not line.strip():
            continue
        if len(line) - len(line.lstrip()) <= base:
            break
        stop = at + 1
    return stop


def _table(lines: Sequence[str], index: int) -> int:
    """Return where the table ends that begins on a line, 0 when none does."""
    if _GRID.fullmatch(lines[index]):
        stop = index
        while stop < len(lines) and lines[stop].lstrip()[:1] in ("+", "|"):
            stop += 1
        return stop
    if not _SIMPLE_BORDER.fullmatch(lines[index]):
        return 0
    for at in range(index + 2, len(lines)):
        closes = _SIMPLE_BORDER.fullmatch(lines[at])
        if closes and (at + 1 >= len(lines) or not lines[at + 1].strip()):
            return at + 1
    return 0
