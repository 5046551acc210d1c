"""The sections of the benchmark, and a run through them.

A section is a module with `measure(scale, folder, say)`. It is imported when its turn has come, so
that neither the command line nor another section pays for what only it needs.
"""

import importlib
import math
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from autopoll import __version__
from autopoll.bench.figures import Figure, Say
from autopoll.bench.machine import Machine, this_machine
from autopoll.bench.report import Failure, Report
from autopoll.errors import AutopollError

# In the order of a run: what is compared with the floor first, before the machine has grown warm.
SECTIONS = {
    "chain": "autopoll.bench.chain",
    "ipc": "autopoll.bench.ipc.matrix",
    "growth": "autopoll.bench.growth",
    "idle": "autopoll.bench.idle",
    "old-way": "autopoll.bench.old_way",
}
_ON_DISK = Path("/var/tmp")  # noqa: S108 - /tmp is memory on many machines, where a commit is free
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Measure = Callable[[float, Path, Say], list[Figure]]


class NoFigures(AutopollError):
    """A section came to its end without a figure that can be used."""


def run(names: Sequence[str], scale: float, say: Say) -> Report:
    """Measure sections one after the other and return what they found.

    One that fails does not keep the others from their turn. Leaves nothing behind.
    """
    started, load = datetime.now(UTC), os.getloadavg()[0]
    began = time.monotonic()
    figures: list[Figure] = []
    failures: list[Failure] = []
    with _scratch() as folder:
        machine = this_machine(folder)
        for name in names:
            outcome = _measure(name, scale, folder / name, lambda text: say(f"{name}: {text}"))  # noqa: B023
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                figures += outcome
    return Report(
        version=__version__,
        machine=machine,
        started=started.replace(microsecond=0),
        seconds=round(time.monotonic() - began, 1),
        load=round(load, 2),
        scale=scale,
        figures=figures,
        failures=failures,
    )


def here() -> Machine:
    """Describe the machine as a run on it would."""
    with _scratch() as folder:
        return this_machine(folder)


def _measure(name: str, scale: float, folder: Path, say: Say) -> list[Figure] | Failure:
    folder.mkdir()
    say("begins")
    try:
        measure: Measure = importlib.import_module(SECTIONS[name]).measure
        figures = measure(scale, folder, say)
        _check(figures)
    except Exception as error:  # whatever it is, the other sections are none the worse for it
        if os.environ.get("AUTOPOLL_DEBUG") == "1":
            raise
        return Failure(name, _reason(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # disk for the next; _scratch sees what is left
    return figures


def _check(figures: Sequence[Figure]) -> None:
    if not figures:
        raise NoFigures("it measured nothing")
    for figure in figures:
        numbers = (figure.value, figure.p99, figure.ratio, figure.p99_ratio)
        if not all(math.isfinite(number) for number in numbers if number is not None):
            raise NoFigures(f"{figure.name!r} came to {numbers}, which are not all numbers")
    if len({(figure.section, figure.name) for figure in figures}) < len(figures):
        raise NoFigures("two of its figures have the same name")  # a comparison would lose one


def _reason(error: Exception) -> str:
    if isinstance(error, AutopollError):
        return error.what
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    assert place is not None
    code = place.tb_frame.f_code
    where = f"{Path(code.co_filename).name}, line {place.tb_lineno}"
    return f"{type(error).__name__}: {error} ({where})"


@contextmanager
def _scratch() -> Iterator[Path]:
    """Make the folder that everything is measured in, TMPDIR if that is set, and remove it.

    Whatever is made by tempfile meanwhile, homes too, lies in there and so on the same disk.
    """
    chosen = "TMPDIR" in os.environ or not os.access(_ON_DISK, os.W_OK | os.X_OK)
    before = tempfile.tempdir
    folder = Path(tempfile.mkdtemp(prefix="autopoll-bench-", dir=None if chosen else _ON_DISK))
    try:
        tempfile.tempdir = str(folder)
        yield folder
    finally:
        tempfile.tempdir = before
        # A second Ctrl-C must not leave half of it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        shutil.rmtree(folder)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
