"""The phases of a worker, and which may follow which.

Theory. A worker has its pipes from SERVING on, and an instance that answers only while SERVING or
RETIRING. One that breaks is replaced behind the pipes (REPLACING): requests wait for its successor.
Where none may be started for a time, the pipes are taken away (HELD), so that questions wait in the
bridge untouched. An instance that is old, or has answered enough, takes nothing new (RETIRING) and
has no deadline for what is in flight. DRAINING is the end of each: it has a deadline.
"""

from enum import StrEnum

from autopoll.process.heartbeat import ProcessState


class WorkerPhase(StrEnum):
    """How far a worker has come."""

    STARTING = "starting"
    HELD = "held"
    SERVING = "serving"
    REPLACING = "replacing"
    RETIRING = "retiring"
    DRAINING = "draining"


_P = WorkerPhase

MOVES: dict[WorkerPhase, frozenset[WorkerPhase]] = {
    _P.STARTING: frozenset({_P.STARTING, _P.SERVING, _P.HELD, _P.DRAINING}),
    _P.HELD: frozenset({_P.HELD, _P.STARTING, _P.DRAINING}),
    _P.SERVING: frozenset({_P.REPLACING, _P.RETIRING, _P.DRAINING}),
    _P.REPLACING: frozenset({_P.SERVING, _P.RETIRING, _P.HELD, _P.DRAINING}),
    _P.RETIRING: frozenset({_P.REPLACING, _P.DRAINING}),
    _P.DRAINING: frozenset(),
}

# What the heartbeat says; an idle worker with a request in flight shows as busy.
SHOWN = {
    _P.STARTING: ProcessState.STARTING,
    _P.HELD: ProcessState.HELD,
    _P.SERVING: ProcessState.IDLE,
    _P.REPLACING: ProcessState.STARTING,
    _P.RETIRING: ProcessState.DRAINING,
    _P.DRAINING: ProcessState.DRAINING,
}

PUBLISHED = (_P.SERVING, _P.REPLACING, _P.RETIRING)
WARM = (_P.SERVING, _P.RETIRING)


def moved(now: WorkerPhase, to: WorkerPhase) -> WorkerPhase:
    """Return the phase to move to; RuntimeError when it cannot follow, which is a bug."""
    if to not in MOVES[now]:
        raise RuntimeError(f"a worker cannot go from {now} to {to}")
    return to
