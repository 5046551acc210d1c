"""The folder that the results of a run are written to."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autopoll.errors import UsageError
from bench.cost import plot, report, sections, table
from bench.cost.report import Report

PAGE = "figures.md"
# All that a run may write: what is not written anew would belie the figures beside it.
_PICTURES = (
    "ratios.svg",
    *(f"{name}.svg" for name in sections.SECTIONS),
)


@contextmanager
def folder(out: Path) -> Iterator[Path]:
    """Make the folder for the results and see, before all else, that it can be written.

    If it was made here and stays empty, because the run was interrupted, it is removed again.
    Raises UsageError.
    """
    try:
        made = [each for each in (out, *out.parents) if not each.exists()]
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise UsageError(
            f"results cannot be written to {out}: {error.strerror}",
            "Choose another folder with --out.",
        ) from error
    try:
        yield out
    finally:
        for each in made:
            with contextlib.suppress(OSError):  # it is not empty: there are results in it
                each.rmdir()


def write(found: Report, out: Path) -> list[str]:
    """Write figures.json, figures.md and, where matplotlib is, the plots; return their names.

    They take the place of those of an earlier run.
    """
    drawn = plot.pictures(found.figures) if plot.is_possible() else {}
    page = table.markdown(found, list(drawn)).encode()
    files = {report.NAME: found.encode(), PAGE: page, **drawn}
    for name, content in files.items():
        put(out / name, content)
    for name in set(_PICTURES) - drawn.keys():
        (out / name).unlink(missing_ok=True)
    return list(files)


def put(path: Path, content: bytes) -> None:
    """Write a file that everybody may read, whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(content)
        fresh.rename(path)
    finally:
        fresh.unlink(missing_ok=True)
