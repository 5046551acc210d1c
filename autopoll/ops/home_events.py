"""What has happened in a home since the last poll, a line each: readiness and incidents."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from autopoll.home.file_stamp import stamp_of
from autopoll.home.home import Home, shard_of
from autopoll.process import incident_log
from autopoll.process.incident_log import Incident
from autopoll.process.ready import missing


class HomeEvent(NamedTuple):
    """What has happened to a process, or to the home, in words."""

    text: str
    process: str = "supervisord"
    level: str = "info"


class HomeEvents:
    """Reads what the processes of a home write; nothing else is asked."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._ready = False
        self._known = {each.id: each for each in incident_log.read(home.incidents)}
        self._stamp = stamp_of(home.incidents)

    def poll(self, programs: Iterable[str]) -> Iterator[HomeEvent]:
        """Yield what is new; `programs` are all that should run."""
        names = list(programs)
        if not self._ready and names and not missing(self._home, names):
            self._ready = True
            shards = sorted({shard_of(name) for name in names if _is_worker(name)})
            yield HomeEvent(f"ready: {', '.join(shards)}")
        if (stamp := stamp_of(self._home.incidents)) == self._stamp:
            return
        self._stamp = stamp
        found = {each.id: each for each in incident_log.read(self._home.incidents)}
        before, self._known = self._known, found
        for each in found.values():
            if each.id not in before:
                yield _begun(each)
            if each.is_over and not (each.id in before and before[each.id].is_over):
                text = f"incident: {each.process}, {each.verdict}: {each.ending}"
                yield HomeEvent(text, each.process)


def _begun(incident: Incident) -> HomeEvent:
    what = f"{incident.process}, {incident.verdict}, {incident.action}: {incident.evidence}"
    return HomeEvent(f"incident: {what}", incident.process, "warning")


def _is_worker(name: str) -> bool:
    return name == "worker" or name.startswith("worker-")
