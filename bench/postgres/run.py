"""A run: in each round a server, on which all that take part have their turn; then the claims."""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from autopoll import __version__
from autopoll.errors import AutopollError
from bench.cost.disk import scratch_folder
from bench.cost.figures import Figure, Say, Spread, median, spread
from bench.cost.machine import this_machine
from bench.cost.report import Failure, Report
from bench.peers import measures
from bench.peers.asker import Asker
from bench.peers.servers import postgresql
from bench.peers.turn import OUTSTANDING, Counts
from bench.postgres import claims
from bench.postgres.entrants import Entrant

ROUNDS = 2
MEASURES = (measures.ONE, measures.SINGLY, measures.TOGETHER)
_PASSABLE = 0o711  # PostgreSQL runs as another user, and must get to its folder

Turns = dict[str, list[dict[str, Spread]]]


def run(entrants: Sequence[Entrant], rounds: int, scale: float, say: Say) -> Report:
    """Give each entrant a turn in each round; one that fails is left out, of the figures too."""
    started, load, began = datetime.now(UTC), os.getloadavg()[0], time.monotonic()
    turns: Turns = {}
    failures: dict[str, Failure] = {}
    with scratch_folder() as scratch:
        scratch.chmod(_PASSABLE)
        machine = this_machine(scratch)
        for number in range(1, rounds + 1):
            with _server(scratch, f"{number}") as (folder, version):
                for entrant in [each for each in entrants if each.name not in failures]:
                    say(f"{entrant.name}, round {number} of {rounds}")
                    _take(entrant, folder, Counts().scaled(scale), turns, failures)
        with _server(scratch, "claims") as (folder, version):
            found = claims.figures(folder, scale, say)
    return Report(
        version=__version__,
        machine=machine,
        started=started.replace(microsecond=0),
        seconds=round(time.monotonic() - began, 1),
        load=round(load, 2),
        scale=scale,
        figures=[*_figures(entrants, turns, version), *found],
        failures=list(failures.values()),
    )


@contextmanager
def _server(scratch: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Yield the folder of a new server, which is removed with it, and its version."""
    folder = scratch / f"server-{name}"
    folder.mkdir()
    folder.chmod(_PASSABLE)
    try:
        with postgresql(folder) as version:
            yield folder, version
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # scratch_folder sees what is left


def _take(
    entrant: Entrant, folder: Path, counts: Counts, turns: Turns, failures: dict[str, Failure]
) -> None:
    try:
        entrant.versions()  # it must be there
        with entrant.start(folder) as askers:
            turns.setdefault(entrant.name, []).append(_measured(entrant, askers, counts))
    except (AutopollError, OSError) as error:
        mend = f" ({error.mend})" if isinstance(error, AutopollError) and error.mend else ""
        what = error.what if isinstance(error, AutopollError) else str(error)
        failures[entrant.name] = Failure(entrant.name, f"{what}{mend}")
        turns.pop(entrant.name, None)


def _measured(entrant: Entrant, askers: Sequence[Asker], counts: Counts) -> dict[str, Spread]:
    """Return what a turn has shown; of several askers the first asks alone, and then all do."""
    first = askers[0]
    one = min(counts.one, entrant.one or counts.one)
    first.seconds(1, laps=min(counts.warm_up, one))
    each = first.seconds(1, laps=one)
    singly = _at_once(askers, counts.many, together=False)
    together = [_at_once(askers, OUTSTANDING, together=True) for _ in range(counts.laps)]
    return {
        measures.ONE: spread([seconds * 1e6 for seconds in each]),
        measures.SINGLY: spread([counts.many / singly]),
        measures.TOGETHER: spread([OUTSTANDING / seconds for seconds in together]),
    }


def _at_once(askers: Sequence[Asker], count: int, *, together: bool) -> float:
    """Have all askers ask their share of so many questions; return when the last one is done."""
    share = count // len(askers)
    with ThreadPoolExecutor(len(askers)) as threads:
        asked = [threads.submit(each.seconds, share, laps=1, together=together) for each in askers]
        return max(each.result()[0] for each in asked)


def _figures(entrants: Sequence[Entrant], turns: Turns, server: str) -> list[Figure]:
    found = []
    for measure in MEASURES:
        for entrant in [each for each in entrants if each.name in turns]:
            value = median([turn[measure] for turn in turns[entrant.name]])
            one = measure == measures.ONE
            found.append(
                Figure(
                    section=measure,
                    name=entrant.name,
                    value=value.p50,
                    p99=value.p99 if one else None,
                    unit=measures.UNITS[measure],
                    note=f"{entrant.versions()}, {server}" if one else "",
                )
            )
    return found
