"""What Prometheus reads, by figures alone."""

from pathlib import Path

from autopoll.gateway.rest.metrics import EndedProcesses
from autopoll.process import incident_actions, incident_log
from autopoll.process.incident_log import Incident


def ended(folder: Path, process: str) -> Incident:
    made = incident_log.record(
        folder / "incidents.jsonl",
        process=process, verdict="dead", action=incident_actions.LEFT, evidence="killed",
    )  # fmt: skip
    assert made is not None
    return made


def test_restarts_only_grow_though_old_incidents_are_removed(tmp_path: Path) -> None:
    one, two = ended(tmp_path, "worker"), ended(tmp_path, "worker")
    other = ended(tmp_path, "poller")
    counted = EndedProcesses()
    counted.catch_up([one, two])
    counted.catch_up([one, two])
    assert counted.counts == {("worker", "dead"): 2}
    counted.catch_up([two, other])
    assert counted.counts == {("worker", "dead"): 2, ("poller", "dead"): 1}
    counted.catch_up([])
    assert counted.counts == {("worker", "dead"): 2, ("poller", "dead"): 1}
