"""The sections of the benchmark, and a run through them.

A section is a module with `measure(scale, folder, say)`. It is imported when its turn has come, so
that neither the command line nor another section pays for what only it needs.
"""

import importlib
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from autopoll import __version__
from autopoll.errors import AutopollError
from bench.cost.disk import scratch_folder
from bench.cost.figures import Figure, Say
from bench.cost.machine import Machine, this_machine
from bench.cost.report import Failure, Report

# In the order of a run: what is compared with the floor first, before the machine has grown warm.
SECTIONS = {
    "chain": "bench.cost.chain",
    "ipc": "bench.ipc.matrix",
    "growth": "bench.cost.growth",
    "idle": "bench.cost.idle",
    "old-way": "bench.cost.old_way",
}

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
    with scratch_folder() as folder:
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
    with scratch_folder() as folder:
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
        shutil.rmtree(
            folder, ignore_errors=True
        )  # disk for the next; scratch_folder sees what is left
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
