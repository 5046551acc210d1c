"""Holds a worker back at its own door: its crashes, remembered from one incarnation to the next.

supervisord starts a crashed program again within 10 ms and without limit, once it has lived for
three seconds. So the one that is started waits by itself (state `held`) until its budget lets it
try. The history is a small file in var/run, written once per crash.
"""

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from autopoll.home import files
from autopoll.process import incident_log
from autopoll.process.incident_log import Incident
from autopoll.process.proc_stat import boot_id
from autopoll.process.restart_budget import RestartBudget
from autopoll.redact.redact import redact

_KEPT = 500  # characters of a reason

log = logging.getLogger(__name__)


class _History(msgspec.Struct):
    """What the file holds; times of another boot mean nothing."""

    boot_id: str
    budget: RestartBudget
    reason: str = ""  # of the last crash
    incident: Incident | None = None  # while it is held, and until it works again


class Gate:
    """The restart budget of one worker; each time it is held is an incident."""

    def __init__(self, path: Path, record: Path) -> None:
        """Take up the history in the file; what cannot be read counts as none."""
        self._path = path
        self._record = record
        self._history = _read(path) or _History(boot_id(), RestartBudget())

    @property
    def wait(self) -> float:
        """Seconds until the next try is allowed, 0 when it is."""
        return max(0.0, self._history.budget.due - time.monotonic())

    @property
    def words(self) -> str:
        """Why it is shut, for people: how long, after how much, and the last reason."""
        budget = self._history.budget
        times = budget.times or [0.0]
        span = times[-1] - times[0]
        return (
            f"held for {max(1, round(budget.due - times[-1]))} s after {len(times)} crashes"
            f" in {max(1, round(span))} s: {self._history.reason}"
        )

    def crashed(self, reason: str) -> None:
        """Count a crash."""
        self._history.budget.spend(time.monotonic())
        self._history.reason = redact(" ".join(reason.split()))[:_KEPT]
        self._keep()

    def held(self) -> None:
        """Note that it keeps its worker waiting."""
        if self._history.incident is None:
            with self._unless_full():
                self._history.incident = incident_log.record(
                    self._record,
                    process=self._path.name,
                    verdict="crash-loop",
                    action="held",
                    evidence=self.words,
                )
            self._keep()

    def passed(self) -> None:
        """Note that its worker works again; what it may still spend is another matter."""
        incident, self._history.incident = self._history.incident, None
        if incident:
            with self._unless_full():
                took = time.monotonic() - incident.clock
                incident_log.recovered(self._record, incident, round(took * 1000))
            self._keep()

    def open(self) -> None:
        """Forget everything, so that the next start tries at once: a person stands behind it."""
        if self._history.budget.times:
            self._history.budget = RestartBudget()
            self._keep()

    def _keep(self) -> None:
        with self._unless_full():
            files.put(self._path, msgspec.json.encode(self._history))

    @contextlib.contextmanager
    def _unless_full(self) -> Iterator[None]:
        """Go on with what we know ourselves when the disk is full."""
        try:
            yield
        except OSError as error:
            log.warning("%s: %s", self._path.name, error)


def is_failing(path: Path) -> bool:
    """Tell by the history in the file whether its worker is held, or on trial after that."""
    history = _read(path)
    if history is None:
        return False
    return history.incident is not None or history.budget.due > time.monotonic()


def _read(path: Path) -> _History | None:
    try:
        history = msgspec.json.decode(files.get(path) or b"", type=_History)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    if history.boot_id != boot_id():
        return None
    history.budget.bounded(time.monotonic())
    return history
