"""Which phase of a worker may follow which, and what its heartbeat then shows."""

from pathlib import Path

import pytest

from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.process import heartbeat
from autopoll.process.heartbeat_writer import Heart
from autopoll.worker.instance import Instance
from autopoll.worker.phases import MOVES, PUBLISHED, SHOWN, WARM, WorkerPhase, moved
from autopoll.worker.worker import Worker


@pytest.mark.parametrize("now", WorkerPhase)
@pytest.mark.parametrize("to", WorkerPhase)
def test_a_move_that_is_not_in_the_table_raises(now: WorkerPhase, to: WorkerPhase) -> None:
    if to in MOVES[now]:
        assert moved(now, to) is to
        return
    with pytest.raises(RuntimeError, match=f"from {now} to {to}"):
        moved(now, to)


def test_pipes_are_made_by_a_start_and_taken_away_by_being_held_or_the_end() -> None:
    gained = {(now, to) for now in MOVES for to in MOVES[now] if now not in PUBLISHED}
    assert {now for now, to in gained if to in PUBLISHED} == {WorkerPhase.STARTING}
    lost = {to for now in PUBLISHED for to in MOVES[now] if to not in PUBLISHED}
    assert lost == {WorkerPhase.HELD, WorkerPhase.DRAINING}


def test_an_instance_that_is_warm_is_lost_by_breaking_or_with_the_worker() -> None:
    lost = {to for now in WARM for to in MOVES[now] if to not in WARM}
    assert lost == {WorkerPhase.REPLACING, WorkerPhase.DRAINING}


def test_a_worker_shows_its_phase_and_stays_in_it_when_a_move_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make_private()
    home.config.write_text('[shards.main]\nbackend = "echo"\n')
    config = load(home, {})
    with Heart.open(home.beats, "worker", "worker") as heart:
        worker = Worker(config, "main", Instance(home, config, "main", "worker"), heart)
        for phase in (WorkerPhase.HELD, WorkerPhase.STARTING, WorkerPhase.SERVING):
            worker.enter(phase)
            beat = heartbeat.read(home.beats / "worker")
            assert beat and beat.state is SHOWN[phase]
        with pytest.raises(RuntimeError):
            worker.enter(WorkerPhase.HELD)
        assert worker.phase is WorkerPhase.SERVING
        beat = heartbeat.read(home.beats / "worker")
        assert beat and beat.state is SHOWN[WorkerPhase.SERVING]
