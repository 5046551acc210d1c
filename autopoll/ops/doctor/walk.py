"""The walk over all hops, in the order in which a question takes them."""

import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from autopoll.errors import AutopollError, Exit, Untrusted
from autopoll.ops.doctor import (
    answering,
    disks,
    front_doors,
    machine,
    own_files,
    running,
    settings,
    store,
    supervision,
)
from autopoll.ops.doctor.findings import (
    DoctorFinding,
    DoctorHop,
    FindingState,
    failed,
    of_error,
    unknown,
)
from autopoll.ops.doctor.subject import Subject

HOP_S = 8.0  # for one hop: twice what a server that does not answer takes
ALL_S = 20.0  # for all; what is left then is looked at for a moment
_MOMENT_S = 0.5
_GRAVITY = (FindingState.OK, FindingState.UNKNOWN, FindingState.DEGRADED, FindingState.FAILED)

Look = Callable[[Subject], Iterator[DoctorFinding]]

HOPS: tuple[tuple[str, Look], ...] = (
    ("home", own_files.look),
    ("disk", disks.look),
    ("settings", settings.look),
    ("bridge", store.look),
    ("supervisord", supervision.look),
    ("processes", running.look),
    ("shards", answering.look),
    ("gateway", front_doors.look),
    ("machine", machine.look),
)


class DoctorReport(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found, hop by hop."""

    hops: list[DoctorHop]

    @property
    def findings(self) -> list[DoctorFinding]:
        """Return the findings of all hops, in their order."""
        return [each for hop in self.hops for each in hop.findings]

    @property
    def first(self) -> DoctorFinding | None:
        """Return the first that is broken, of those that are gravest; None when nothing is."""
        bad = [each for each in self.findings if not each.is_good]
        return max(bad, key=lambda each: _GRAVITY.index(each.state), default=None)

    @property
    def verdict(self) -> str:
        """ok, degraded or down, as `health` has it."""
        if self.first is None:
            return "ok"
        return "down" if self.first.state is FindingState.FAILED else "degraded"

    @property
    def exit_code(self) -> int:
        """0 ok, 1 degraded, 2 down, 3 supervisord hung, 4 settings that cannot be used."""
        if self.first is not None and self.first.exit_code:
            return self.first.exit_code
        return {"ok": Exit.OK, "degraded": Exit.FAILED}.get(self.verdict, Exit.DOWN)


def refused(error: Untrusted) -> DoctorReport:
    """Return the report on a home that may not be looked into, as of another user."""
    why = failed("trust", error.what, error.mend, Exit.USAGE)
    beyond = unknown("all else", "not looked at: the home is another's, or others can change it")
    return DoctorReport(hops=[DoctorHop("home", [why, beyond])])


def examine(subject: Subject, report: Callable[[str], None]) -> DoctorReport:
    """Look at each hop; what takes too long is named, and the next is looked at."""
    end = time.monotonic() + ALL_S
    hops = []
    for name, look in HOPS:
        report(f"looking at: {name}")
        left = max(_MOMENT_S, min(HOP_S, end - time.monotonic()))
        hops.append(_at(name, look, subject, left))
    return DoctorReport(hops=hops)


def _at(name: str, look: Look, subject: Subject, seconds: float) -> DoctorHop:
    found: list[DoctorFinding] = []
    bugs: list[BaseException] = []

    def collect() -> None:
        try:
            found.extend(look(subject))
        except AutopollError as error:
            found.append(of_error(name, error))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            found.append(unknown(name, f"{where}{error.strerror}", "Look as the user who runs it."))
        except BaseException as error:  # noqa: BLE001 - the end of a thread: raised below
            bugs.append(error)

    # A thread, as nothing else gets away from a disk that does not answer.
    thread = threading.Thread(target=collect, daemon=True, name=f"doctor-{name}")
    thread.start()
    thread.join(seconds)
    if bugs:
        raise bugs[0]
    if thread.is_alive():
        what = f"nothing answers within {seconds:.1f} s"
        found.append(unknown(name, what, "See whether a disk or a network is gone: dmesg, mount"))
    return DoctorHop(name, list(found))
