"""How often supervisord is asked for all its programs, and how often only whether it answers."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from autopoll.process import restarter
from autopoll.process.incident_log import IncidentLog
from autopoll.process.restarter import Restarter
from autopoll.process.supervisor_rpc import Program, Supervisor


class Supervisord:
    """A supervisord, and what it was asked."""

    def __init__(self) -> None:
        self.state = "RUNNING"
        self.asked: list[str] = []

    def processes(self) -> list[Program]:
        self.asked.append("processes")
        return [
            Program(
                name=name,
                group=name,
                state=state,
                pid=1,
                start=0,
                stop=0,
                now=0,
                exitstatus=0,
                spawnerr="",
                description="",
            )
            for name, state in (("worker", self.state), ("poller", "RUNNING"))
        ]

    def pid(self) -> int:
        self.asked.append("pid")
        return 1


class Scene:
    """A restarter before a supervisord, at a moment that is set."""

    def __init__(self, folder: Path, only: str | None = None) -> None:
        self.now = 0.0
        self.supervisord = Supervisord()
        incidents = IncidentLog(folder / "incidents.jsonl")
        self.restarter = Restarter(cast(Supervisor, self.supervisord), incidents, only)

    def asked(self, moment: float, *missing: str) -> list[str]:
        """Return what is asked at this moment, given which programs have no living process."""
        self.now = moment
        self.supervisord.asked.clear()
        if self.restarter.is_due(moment, missing):
            asyncio.run(self.restarter.look())
        return list(self.supervisord.asked)


@pytest.fixture
def scene(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch) -> Scene:
    scene = Scene(tmp_path, getattr(request, "param", None))
    monkeypatch.setattr(restarter, "time", SimpleNamespace(monotonic=lambda: scene.now))
    return scene


def test_while_all_programs_run_supervisord_is_mostly_asked_only_whether_it_answers(scene) -> None:
    assert scene.asked(100.0) == ["processes"]
    assert scene.asked(104.0) == []
    assert scene.asked(105.0) == ["pid"]
    assert scene.asked(125.0) == ["pid"]
    assert scene.asked(130.0) == ["processes"]


def test_all_programs_are_asked_for_from_when_one_is_missing_until_all_run(scene) -> None:
    assert scene.asked(100.0) == ["processes"]
    scene.supervisord.state = "STOPPED"
    assert scene.asked(101.0, "worker") == ["processes"]
    assert scene.asked(102.0, "worker") == []
    assert scene.asked(106.0, "worker") == ["processes"]
    scene.supervisord.state = "RUNNING"
    assert scene.asked(111.0) == ["processes"]
    assert scene.asked(116.0) == ["pid"]


@pytest.mark.parametrize("scene", ["worker"], indirect=True)
def test_a_restarter_for_one_program_looks_at_it_each_time(scene) -> None:
    assert scene.asked(100.0) == ["processes"]
    assert scene.asked(105.0) == ["processes"]
