"""What has happened in a home since the last poll, a line each: readiness and incidents."""

from collections.abc import Iterable, Iterator

from autopoll.home.file_stamp import stamp_of
from autopoll.home.home import Home, shard_of
from autopoll.process import incident_log
from autopoll.process.incident_log import Incident
from autopoll.process.ready import missing


class HomeEvents:
    """Reads what the processes of a home write; nothing else is asked."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._ready = False
        self._known = {each.id: each for each in incident_log.read(home.incidents)}
        self._stamp = stamp_of(home.incidents)

    def poll(self, programs: Iterable[str]) -> Iterator[str]:
        """Yield what is new; `programs` are all that should run."""
        names = list(programs)
        if not self._ready and names and not missing(self._home, names):
            self._ready = True
            yield f"ready: {', '.join(sorted({shard_of(n) for n in names if _is_worker(n)}))}"
        if (stamp := stamp_of(self._home.incidents)) == self._stamp:
            return
        self._stamp = stamp
        found = {each.id: each for each in incident_log.read(self._home.incidents)}
        before, self._known = self._known, found
        for each in found.values():
            if each.id not in before:
                yield _begun(each)
            if each.is_over and not (each.id in before and before[each.id].is_over):
                yield f"incident: {each.process}, {each.verdict}: {each.ending}"


def _begun(incident: Incident) -> str:
    return (
        f"incident: {incident.process}, {incident.verdict}, {incident.action}: {incident.evidence}"
    )


def _is_worker(name: str) -> bool:
    return name == "worker" or name.startswith("worker-")
