"""Cuts the passages that a search has found out of their files, within a budget; pure.

First come the passages themselves, best first; what is left of the budget goes to the lines around
them, nearest first, because a model understands a passage better with what stands beside it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from autopoll.backends.context.search import Hit

AROUND = 30  # lines on either side of a passage, at most
LONG = 1000  # characters of a line that is not shown for the sake of its neighbour
LEFT_OUT = "…"


class Page(NamedTuple):
    """A file as the model sees it: its name, and its text with a number before each line."""

    name: str
    text: str
    lines: int
    tokens: int

    @classmethod
    def of(cls, name: str, text: str) -> "Page":
        """Return the page of a file's text."""
        # Not splitlines: form feeds and the like are no line ends to an editor or a reader.
        lines = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []
        numbered = "\n".join(f"{number}\t{line}" for number, line in enumerate(lines, 1))
        page = f"{heading(name, len(lines))}\n{numbered}\n"
        return cls(name, page, len(lines), tokens(page))

    def bare(self) -> str:
        """Return the text without heading and numbers."""
        numbered = self.text.removesuffix("\n").split("\n")[1:]
        return "\n".join(line.partition("\t")[2] for line in numbered)


def heading(name: str, lines: int) -> str:
    """Return the line above a file; no line of a file can look like it, for they are numbered."""
    return f"=== {name} ({lines:,} lines)"


def tokens(text: str) -> int:
    """Return how many tokens a text has, roughly: one for each three bytes of UTF-8.

    More than it mostly is: numbered prose and code had 3.5 to 3.8 bytes a token where it was
    counted (o200k), and other models take up to a quarter more. Digests and keys have 1.7.
    """
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return -(-size // 3)


def excerpts(hits: Sequence[Hit], pages: Mapping[Path, Page], budget: int) -> str:
    """Return the passages with their surroundings, under the names of their files."""
    cut = _Cut(pages, budget)
    for hit in hits:
        cut.take(hit)
    for distance in range(1, AROUND + 1):
        for hit in hits:
            cut.widen(hit, distance)
    return cut.text()


class _Cut:
    def __init__(self, pages: Mapping[Path, Page], budget: int) -> None:
        self._pages, self._room = pages, budget
        self._lines: defaultdict[Path, dict[int, str]] = defaultdict(dict)
        self._whole: dict[Path, list[str]] = {}

    def take(self, hit: Hit) -> None:
        """Take a passage; its paragraphs and not its lines, which may be of any length."""
        for paragraph in hit.paragraphs:
            for number, line in enumerate(paragraph.text.split("\n"), paragraph.first):
                self._add(hit.path, number, line)

    def widen(self, hit: Hit, distance: int) -> None:
        """Take the lines at a distance before and behind a passage."""
        lines = self._all(hit.path)
        for number in (hit.paragraphs[0].first - distance, hit.paragraphs[-1].last + distance):
            if 1 <= number <= len(lines) and number not in self._lines[hit.path]:
                line = lines[number - 1]
                if len(line) <= LONG:
                    self._add(hit.path, number, line)

    def text(self) -> str:
        return "\n\n".join(self._shown(path) for path, lines in self._lines.items() if lines)

    def _add(self, path: Path, number: int, line: str) -> None:
        before = self._lines[path].get(number)
        if before is not None:  # another piece of a long line
            line = f"{before} {LEFT_OUT} {line}"
        cost = tokens(line) + 3 - (tokens(before) if before is not None else 0)
        if not self._lines[path]:
            cost += tokens(heading(self._pages[path].name, self._pages[path].lines))
        if cost <= self._room:
            self._room -= cost
            self._lines[path][number] = line

    def _all(self, path: Path) -> list[str]:
        if path not in self._whole:
            self._whole[path] = self._pages[path].bare().split("\n")
        return self._whole[path]

    def _shown(self, path: Path) -> str:
        page = self._pages[path]
        shown = [heading(page.name, page.lines)]
        at = 0
        for number, line in sorted(self._lines[path].items()):
            if number != at + 1:
                shown.append(LEFT_OUT)
            shown.append(f"{number}\t{line}")
            at = number
        if at != page.lines:
            shown.append(LEFT_OUT)
        return "\n".join(shown)
