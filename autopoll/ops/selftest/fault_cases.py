"""The self-test of an installation: faults in a home of its own, and what became of the questions.

Faults of one wave strike processes that do not depend on each other, and so are tried side by side;
poller, watchdog and supervisord serve all shards, and their faults have a wave each.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.ops.change_lock import Report
from autopoll.ops.selftest import faulty_backend
from autopoll.ops.selftest.fault_run import SUPERVISORD, FaultCase, FaultOutcome, FaultRun
from autopoll.ops.selftest.scratch_home import Scratch, scratch_home
from autopoll.ops.status import status
from autopoll.process import incident_log

FLOOD = 500
STEP_S = 0.01
OVER = object()


def verdict(name: str) -> Callable[[FaultRun], float | None]:
    """Seen when an incident of the process that was struck has this verdict."""

    def seen(run: FaultRun) -> float | None:
        return next(
            (
                each.clock
                for each in incident_log.read(run.scratch.home.incidents)
                if (each.process, each.verdict) == (run.fault.target, name)
                and each.clock >= run.struck
            ),
            None,
        )

    return seen


def swept(run: FaultRun) -> float | None:
    """Seen when the death is an incident and no child is left of those that outlived it."""
    if verdict("dead")(run) is None or run.scratch.processes(**{faulty_backend.MARK: "children"}):
        return None
    return time.monotonic()


def down(run: FaultRun) -> float | None:
    """Seen when `status` reports that supervisord is gone."""
    now = status(run.scratch.home, run.scratch.config)
    return time.monotonic() if now.supervisord == "down" else None


def taken(run: FaultRun) -> float | None:
    """Seen when the first of the questions is in hand or answered."""
    return time.monotonic() if run.is_taken() else None


def start(run: FaultRun) -> None:
    """Bring the home up again."""
    run.scratch.up(lambda _: None)


STOP, KILL = signal.SIGSTOP, signal.SIGKILL
NAP = ("nap",)
WAVES: tuple[tuple[FaultCase, ...], ...] = (
    (
        FaultCase("worker stopped, busy", verdict("stopped"), "held", questions=NAP, signal=STOP),
        FaultCase("worker stopped, idle", verdict("stopped"), "idle", signal=STOP),
        FaultCase("backend deadlocked", verdict("hung-request"), "stuck", questions=("deadlock",)),
        FaultCase("children outlive the worker", swept, "bereft", questions=("children",)),
        FaultCase("zombie child", verdict("zombie-children"), "zombie", questions=("zombie",)),
        FaultCase("descriptors leak", verdict("leak"), "leaking", questions=("leak",)),
    ),
    (FaultCase("poller stopped, busy", verdict("stopped"), "held", "poller", NAP, STOP),),
    (FaultCase("poller stopped, idle", verdict("stopped"), process="poller", signal=STOP),),
    (FaultCase("watchdog killed", verdict("dead"), process="watchdog", signal=KILL),),
    (FaultCase("watchdog stopped", verdict("stopped"), process="watchdog", signal=STOP),),
    (FaultCase("supervisord stopped", verdict("stopped"), process=SUPERVISORD, signal=STOP),),
    (FaultCase("supervisord killed", down, process=SUPERVISORD, signal=KILL, mend=start),),
    (FaultCase(f"{FLOOD} questions at once", taken, questions=("why?",) * FLOOD),),
)
CONFIG = """
[access]
rate_per_second = 100000.0
rate_burst = 100000
[shards.main]
backend = "echo"
options.concurrency = 4
[shards.stuck]
backend = "faulty"
request_timeout = "1s"
""" + "".join(
    f'[shards.{name}]\nbackend = "faulty"\n'
    for name in ("held", "idle", "bereft", "zombie", "leaking")
)


def run_all(report: Report, show: Callable[[FaultOutcome], None]) -> list[FaultOutcome]:
    """Go through all faults, `show` what became of each, and leave nothing behind."""
    outcomes = []
    report("starting a home of its own")
    with scratch_home(CONFIG, {"faulty": "autopoll.ops.selftest.faulty_backend:Faulty"}) as scratch:
        scratch.up(report)
        with closing(connect(scratch.home, scratch.config)) as bridge:
            for wave in WAVES:
                for outcome in _strike(wave, scratch, bridge, report):
                    show(outcome)
                    outcomes.append(outcome)
    return outcomes


def _strike(
    wave: tuple[FaultCase, ...], scratch: Scratch, bridge: Bridge, report: Report
) -> Iterator[FaultOutcome]:
    runs = {run: run.run() for run in (FaultRun(fault, scratch, bridge) for fault in wave)}
    while runs:
        report(", ".join(run.fault.name for run in runs))
        for run, steps in list(runs.items()):
            if next(steps, OVER) is OVER:
                del runs[run]
                yield run.outcome()
        time.sleep(STEP_S)
