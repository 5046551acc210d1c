"""The processes of the home: whether each works, and what outlived one."""

from collections.abc import Iterator

import psutil

from autopoll.ops.doctor.findings import DoctorFinding, degraded, failed, good
from autopoll.ops.doctor.subject import Subject
from autopoll.ops.health import check_process
from autopoll.ops.process_tree import POLLER
from autopoll.ops.status import Process
from autopoll.ops.supervisord_state import SupervisordState
from autopoll.process import orphans

_MOST = 5  # that are named


def look(subject: Subject) -> Iterator[DoctorFinding]:
    """Look at each process there should be, and at each there should not be."""
    now = subject.status
    if now is not None and now.supervisord == SupervisordState.RUNNING:
        for each in now.processes:
            yield _of(each)
            if each.version and each.version != now.version:
                what = f"runs {each.version}, and {now.version} is installed"
                mend = f"Have it take that up: autopoll restart {each.name}"
                yield degraded(f"version of {each.name}", what, mend)
        if now.supervisord_version and now.supervisord_version != now.version:
            what = f"runs {now.supervisord_version}, and {now.version} is installed"
            yield degraded("version of supervisord", what, "Have all taken up: autopoll restart")
    yield from _look_for_leftovers(subject)


def _of(process: Process) -> DoctorFinding:
    """Return what `health` says of a process, with a mend.

    Without a poller nothing is answered.
    """
    name, check = process.name, check_process(process)
    if check.ok and not process.note:
        return good(name, f"{check.detail}, process {process.pid}")
    bad = degraded if check.ok or process.role != POLLER else failed
    return bad(name, check.detail, _mend(process))


def _mend(process: Process) -> str:
    name = process.name
    match process.state:
        case "fatal" | "backoff" | "exited":
            return f"Read autopoll logs {name}, mend that; autopoll restart {name}"
        case "stopped" | "down":
            return f"Start it: autopoll restart {name}"
        case "suspended":
            return f"Let it go on: kill -CONT {process.pid}"
        case "starting" | "draining":
            return "Wait for it: autopoll status --watch"
    return f"See autopoll logs {name}; where it stands: autopoll doctor --stacks {name}"


def _look_for_leftovers(subject: Subject) -> Iterator[DoctorFinding]:
    """Look for zombies of our processes, and for processes whose home is gone."""
    marker = {"AUTOPOLL_SUPERVISED": str(subject.home.supervisord_conf.parent)}
    marked = orphans.find(marker)
    if subject.supervisord is None and marked:
        some = ", ".join(f"{each.pid} ({each.command[:60]})" for each in marked[:_MOST])
        what = f"{len(marked)} processes have outlived supervisord: {some}"
        yield degraded("orphans", what, "They are ended by the next start: autopoll up")
    zombies = []
    for each in marked:
        try:
            children = psutil.Process(each.pid).children()
            zombies += [
                f"{child.pid} of {each.pid}"
                for child in children
                if child.status() == psutil.STATUS_ZOMBIE
            ]
        except psutil.Error:  # gone meanwhile, or another user's
            continue
    if zombies:
        what = f"{len(zombies)} zombies: {', '.join(zombies[:_MOST])}"
        mend = "The watchdog replaces a worker that keeps them: autopoll incidents"
        yield degraded("zombies", what, mend)
