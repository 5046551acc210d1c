"""How texts of each format are cut into blocks, by the file's suffix; pure.

Written by hand, for speed: markdown-it-py reads 2 MB a second, and docutils less.
"""

from collections.abc import Callable, Iterator, Sequence

from autopoll.backends.context.formats import (
    html,
    markdown,
    notebook,
    restructured_text,
    source_code,
)
from autopoll.backends.context.formats.block import Block

Cutter = Callable[[Sequence[str]], tuple[Sequence[str], Iterator[Block]]]

_BY_SUFFIX: dict[str, Cutter] = {
    ".md": markdown.cut,
    ".markdown": markdown.cut,
    ".mdx": markdown.cut,
    ".html": html.cut,
    ".htm": html.cut,
    ".xhtml": html.cut,
    ".ipynb": notebook.cut,
    # A text without a format is read like reStructuredText: a title is what is underlined.
    "": restructured_text.cut,
    ".rst": restructured_text.cut,
    ".txt": restructured_text.cut,
}


def cutter(suffix: str) -> Cutter:
    """Return what cuts files of a suffix; source code is what is none of the known formats."""
    return _BY_SUFFIX.get(suffix.lower(), source_code.cut)
