"""The processes of the home: whether each works, and what outlived one."""

from collections.abc import Iterator

import psutil

from autopoll.client.availability import STALE_S
from autopoll.ops.doctor.findings import DoctorFinding, degraded, failed, good
from autopoll.ops.doctor.subject import Subject
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
    """Return what is to be said of one process; without the poller nothing is answered."""
    bad = failed if process.role == "poller" else degraded
    name, note = process.name, f": {process.note}" if process.note else ""
    restart = f"Start it: autopoll restart {name}"
    if process.loop_age_s is not None and process.loop_age_s > STALE_S and process.ready:
        detail = f"its loop has stood still for {process.loop_age_s:.0f} s"
        return bad(name, detail, f"See where: autopoll doctor --stacks {name}")
    match process.state:
        case "fatal" | "backoff":
            mend = f"Read autopoll logs {name}, mend that; autopoll restart {name}"
            return bad(name, f"supervisord has given it up{note}", mend)
        case "exited":
            return bad(name, f"has ended{note}", f"Mend that; autopoll restart {name}")
        case "stopped" | "down":
            return bad(name, f"was stopped by hand, or never started{note}", restart)
        case "suspended":
            return bad(name, "is stopped by a signal", f"Let it go on: kill -CONT {process.pid}")
        case "held":
            return bad(name, f"is held{note}", f"See: autopoll logs {name}")
    if process.note and process.ready:
        return degraded(name, f"{process.state}{note}", f"See: autopoll logs {name}")
    return good(name, f"{process.state}, process {process.pid}")


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
