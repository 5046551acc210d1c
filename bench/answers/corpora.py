"""The documentation that is asked: which packages bring it, and how it is got and read.

The development sets are for setting parameters. The held-out one is for looking at the outcome, and
nothing is ever set by it.
"""

import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from autopoll.errors import AutopollError

_SUFFIXES = frozenset({".rst", ".txt", ".md", ".pod"})
_POD_HEADING = re.compile(r"=head([1-4])\s+(.*)")
_POD_ITEM = re.compile(r"=item\s+(.*)")
_POD_MARKUP = re.compile(r"[BCEFILSXZ](?:<<+\s(.*?)\s>>+|<([^<>|]*)(?:\|[^<>]*)?>)")


class NotFetched(AutopollError):
    """Documentation that cannot be got here."""


class Document(msgspec.Struct, frozen=True):
    """A file of documentation; `path` is below the folder of its corpus, which it begins with."""

    path: str
    text: str


class Corpus(msgspec.Struct, frozen=True, kw_only=True):
    """Documentation that a package brings: an sdist of PyPI, or a package of Debian 12.

    `docs` are the folders in it that are read, `faq` patterns of the files with questions.
    """

    name: str
    package: str
    docs: tuple[str, ...]
    faq: tuple[str, ...] = ()

    @property
    def is_sdist(self) -> bool:
        return "==" in self.package


class CorpusGroup(msgspec.Struct, frozen=True):
    """What is searched together."""

    name: str
    corpora: tuple[Corpus, ...]


DEVELOPMENT = CorpusGroup(
    "development",
    (
        Corpus(name="perl", package="perl-doc", docs=("**/pod",), faq=("perlfaq[1-9].md",)),
        Corpus(name="django", package="django==5.2.19", docs=("docs",), faq=("faq/*.txt",)),
        Corpus(name="celery", package="celery==5.7.0", docs=("docs",), faq=("faq.rst",)),
        Corpus(name="scrapy", package="scrapy==2.19.0", docs=("docs",), faq=("faq.rst",)),
        Corpus(name="docutils", package="docutils==0.23", docs=("docs", "."), faq=("FAQ.rst",)),
        Corpus(name="sphinx", package="sphinx==9.0.4", docs=("doc",)),
        Corpus(name="tornado", package="tornado==6.6.1", docs=("docs",)),
    ),
)
HELD_OUT = CorpusGroup(
    "held-out",
    (
        Corpus(
            name="python",
            package="python3.11-doc",
            docs=("**/html/_sources",),
            faq=("faq/*.rst",),
        ),
    ),
)
GROUPS = (DEVELOPMENT, HELD_OUT)


def documents(corpus: Corpus, cache: Path) -> list[Document]:
    """Return the files of a corpus in order; get its package first, once.

    Raises NotFetched.
    """
    folder = cache / corpus.name
    if not folder.is_dir():
        _fetch(corpus, folder)
    roots = [root for pattern in corpus.docs for root in _roots(folder, pattern)]
    found = {document.path: document for root in roots for document in _read(corpus, root)}
    if not found:
        raise NotFetched(
            f"{corpus.package} has no documentation in {', '.join(corpus.docs)}",
            f"Remove {folder}, and it is got again.",
        )
    return [found[path] for path in sorted(found)]


def is_faq(corpus: Corpus, document: Document) -> bool:
    """Return whether a file holds questions with their answers."""
    path = Path(document.path)
    return any(path.match(f"{corpus.name}/{pattern}") for pattern in corpus.faq)


def _roots(folder: Path, pattern: str) -> list[Path]:
    return [folder] if pattern == "." else sorted(folder.glob(pattern))


def _read(corpus: Corpus, root: Path) -> Iterator[Document]:
    # Of the top folder of an sdist only the files: below it is more than documentation.
    is_top = not any(root.match(pattern) for pattern in corpus.docs if pattern != ".")
    for path in sorted(root.glob("*" if is_top else "**/*")):
        if path.suffix not in _SUFFIXES or not path.is_file() or path.is_symlink():
            continue
        text = path.read_text("utf-8", "replace")
        name = path.relative_to(root)
        if path.name.endswith(".rst.txt"):  # as Sphinx puts its sources beside the pages
            name = name.with_suffix("")
        if path.suffix == ".pod":
            name, text = name.with_suffix(".md"), _pod_as_markdown(text)
        yield Document(f"{corpus.name}/{name}", text)


def _pod_as_markdown(text: str) -> str:
    """Return Perl's format as Markdown, line by line."""
    return "\n".join(map(_pod_line, text.split("\n")))


def _pod_line(line: str) -> str:
    if line.startswith((" ", "\t")):
        return f"    {line}"
    if found := _POD_HEADING.match(line):
        line = f"{'#' * int(found[1])} {found[2]}"
    elif found := _POD_ITEM.match(line):
        line = found[1] if found[1] in "*-" else f"- {found[1]}"
    elif line.startswith("="):
        return ""
    before = ""
    while before != line:  # markup stands within markup
        before, line = line, _POD_MARKUP.sub(lambda found: found[1] or found[2] or "", line)
    return line


def _fetch(corpus: Corpus, folder: Path) -> None:
    """Get the package by its ordinary client, and unpack it; whole or not at all."""
    with TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as scratch:
        unpack = _sdist if corpus.is_sdist else _debian
        unpack(corpus, Path(scratch)).rename(folder)


def _sdist(corpus: Corpus, folder: Path) -> Path:
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:")
    _run(corpus, [*pip, corpus.package], folder)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = (each for each in folder.iterdir() if each.is_dir())
    return unpacked


def _debian(corpus: Corpus, folder: Path) -> Path:
    _run(corpus, ["apt-get", "download", "--quiet", corpus.package], folder)
    (package,) = folder.glob("*.deb")
    _run(corpus, ["dpkg-deb", "--extract", package.name, "unpacked"], folder)
    return folder / "unpacked"


def _run(corpus: Corpus, line: list[str], folder: Path) -> None:
    try:
        subprocess.run(line, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise NotFetched(
            f"{corpus.package} cannot be got: there is no {error.filename} here",
            "It is of Debian 12; leave its group out with --groups.",
        ) from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().rpartition("\n")[2]
        mend = "Is PyPI within reach?" if corpus.is_sdist else "Run: apt-get update"
        raise NotFetched(f"{corpus.package} cannot be got: {reason}", mend) from error
