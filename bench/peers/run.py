"""A run: rounds in which the contenders take turns, and the figures that come of them."""

import os
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from autopoll import __version__
from autopoll.errors import AutopollError
from bench.cost.disk import scratch_folder
from bench.cost.figures import Figure, Say, Spread, median
from bench.cost.machine import this_machine
from bench.cost.report import Failure, Report
from bench.peers import measures
from bench.peers.contenders import FLOOR, Contender
from bench.peers.turn import Counts, Outcome, take

ROUNDS = 3
_PASSABLE = 0o711  # PostgreSQL runs as another user, and must get to its folder


def run(contenders: Sequence[Contender], rounds: int, scale: float, say: Say) -> Report:
    """Give each contender a turn in each round; one that fails is left out, of the figures too."""
    started, load, began = datetime.now(UTC), os.getloadavg()[0], time.monotonic()
    outcomes: dict[str, list[Outcome]] = {}
    failures: dict[str, Failure] = {}
    counts = Counts().scaled(scale)
    with scratch_folder() as scratch:
        scratch.chmod(_PASSABLE)
        machine = this_machine(scratch)
        for number in range(1, rounds + 1):
            for contender in [each for each in contenders if each.name not in failures]:
                name = contender.name
                say(f"{name}, round {number} of {rounds}")
                outcome = _turn(contender, scratch / f"{contender.app}-{number}", counts)
                if isinstance(outcome, Failure):
                    failures[name] = outcome
                    outcomes.pop(name, None)
                    say(f"{name} is left out: {outcome.reason}")
                else:
                    outcomes.setdefault(name, []).append(outcome)
    return Report(
        version=__version__,
        machine=machine,
        started=started.replace(microsecond=0),
        seconds=round(time.monotonic() - began, 1),
        load=round(load, 2),
        scale=scale,
        figures=figures(outcomes),
        failures=list(failures.values()),
    )


def _turn(contender: Contender, folder: Path, counts: Counts) -> Outcome | Failure:
    folder.mkdir()
    folder.chmod(_PASSABLE)
    try:
        return take(contender, folder, counts)
    except (AutopollError, OSError) as error:
        return Failure(contender.name, _reason(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # scratch_folder sees what is left


def figures(outcomes: dict[str, list[Outcome]]) -> list[Figure]:
    """Return a figure for each measure of each contender: the median of its turns.

    The ratio is to the floor, where it takes part.
    """
    found = []
    for measure, unit in measures.UNITS.items():
        spreads = {
            name: median([each.spreads[measure] for each in turns])
            for name, turns in outcomes.items()
        }
        lowest = None if measure in measures.NO_RATIO else spreads.get(FLOOR)
        found += [
            _figure(name, measure, unit, spread, lowest, outcomes[name][0].versions)
            for name, spread in spreads.items()
        ]
    return found


def _figure(
    name: str, measure: str, unit: str, spread: Spread, lowest: Spread | None, versions: str
) -> Figure:
    beside = lowest if name != FLOOR else None
    one = measure == measures.ONE
    return Figure(
        section=measure,
        name=name,
        value=spread.p50,
        p99=spread.p99 if one else None,
        unit=unit,
        ratio=spread.p50 / beside.p50 if beside else None,
        p99_ratio=spread.p99 / beside.p99 if beside and one else None,
        floor=FLOOR if beside else None,
        note=versions if one else "",
    )


def _reason(error: AutopollError | OSError) -> str:
    if isinstance(error, AutopollError):
        return f"{error.what} ({error.mend})" if error.mend else error.what
    return str(error)
