"""The benchmark of a quiet home, shortened: real processes, and none left over."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from place import until

from bench.cost import idle, old_way
from bench.cost.figures import Figure
from bench.cost.upkeep import upkeep

SLEEPER = "import time\nwhile True: time.sleep(0.01)"
SPINNER = "while True: pass"


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def watched(program: str) -> tuple[float, int]:
    """Return the CPU seconds and the wake-ups of a program until it had at least some of one."""
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        try:
            before = upkeep(process.pid)

            def used() -> tuple[float, int] | None:
                after = upkeep(process.pid)
                cpu, wakeups = after.cpu_s - before.cpu_s, after.wakeups_since(before)
                return (cpu, wakeups) if cpu > 0.5 or wakeups > 50 else None

            return until(used)
        finally:
            process.kill()


def test_what_spins_uses_the_processor_and_what_sleeps_wakes_up() -> None:
    cpu, wakeups = watched(SPINNER)
    assert cpu > 0.5
    assert wakeups <= 50
    cpu, wakeups = watched(SLEEPER)
    assert cpu < 0.5
    assert wakeups > 50


def test_the_processor_time_of_another_process_is_the_one_it_sees_itself() -> None:
    assert upkeep(os.getpid()).cpu_s == pytest.approx(time.process_time(), abs=0.1)


def test_a_process_that_has_ended_cannot_be_read() -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        process.wait()
        with pytest.raises(ProcessLookupError):
            upkeep(process.pid)


@pytest.mark.long
def test_a_quiet_home_is_measured_and_taken_away(tmp_path: Path) -> None:
    before = children()
    figures = {each.name: each for each in idle.measure(0.02, tmp_path, lambda _: None)}
    assert {name: each.target for name, each in figures.items() if each.target} == {
        "up until ready": 2.0,
        "autopoll --help": 5.0,
        "autopoll ask, beyond 5 x python -c pass": 50.0,
        "question noticed, foreign writer": 3.0,
        "CPU of poller, worker and watchdog together": 0.5,
        "memory of poller": 40e6,
        "memory of watchdog": 30e6,
        "memory of worker": 45e6,
    }
    assert "wake-ups of supervisord a second" in figures
    # Memory is no matter of time or chance, so the promise can be kept here.
    for role in ("poller", "watchdog", "worker"):
        assert figures[f"memory of {role}"].met, figures[f"memory of {role}"].value
    assert children() == before
    assert not list(tmp_path.iterdir())


def test_what_the_old_way_would_start_is_named_when_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    with monkeypatch.context() as without:
        without.setattr(old_way, "bundled", lambda: None)
        figures = measured(tmp_path)
    bare = figures["process per query: python -c pass"]
    assert bare.note == "not installed here, or broken: node, claude"
    assert len(figures) == 3
    (empty / "node").write_text("#!/bin/sh\n")
    (empty / "node").chmod(0o755)
    figures = measured(tmp_path)
    assert figures["process per query: node -e 0"].floor == bare.name
    # The one that the wheel of claude-agent-sdk brings along is not on PATH.
    assert figures["process per query: claude --version"].floor == bare.name
    (empty / "node").write_text("#!/bin/sh\nexit 1\n")
    figures = measured(tmp_path)
    assert figures[bare.name].note == "not installed here, or broken: node"
    assert figures["mean wait for the next poll"].value == 2500
    assert figures["longest wait for the next poll"].value == 5000


def measured(folder: Path) -> dict[str, Figure]:
    return {each.name: each for each in old_way.measure(0.1, folder, lambda _: None)}
