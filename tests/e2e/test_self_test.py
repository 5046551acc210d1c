"""`autopoll faults` as an operator runs it: to its end, and interrupted."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from place import until

pytestmark = pytest.mark.long

FAULTS = {
    "worker stopped, busy",
    "worker stopped, idle",
    "backend deadlocked",
    "children outlive the worker",
    "zombie child",
    "descriptors leak",
    "poller stopped, busy",
    "poller stopped, idle",
    "watchdog killed",
    "watchdog stopped",
    "supervisord stopped",
    "supervisord killed",
    "500 questions at once",
}


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the self-test makes its home; in the end nothing may be left there, nor run there."""
    with tempfile.TemporaryDirectory(prefix="ap-") as name:
        folder = Path(name).resolve()
        yield folder
        left = running_in(folder)
        for process in left:
            process.kill()
        assert left == []
        assert list(folder.iterdir()) == []


def running_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get("AUTOPOLL_SUPERVISED", "").startswith(str(folder))
            if marked or Path(process.cwd()).is_relative_to(folder):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def start(temporary: Path, *args: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "autopoll", "faults", *args],
        env={**os.environ, "TMPDIR": str(temporary), **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_every_fault_is_noticed_and_no_question_is_lost_or_answered_twice(
    temporary, tmp_path
) -> None:
    # What is set for the operator's own home has no say in the scratch home.
    own = {"AUTOPOLL_HOME": str(tmp_path), "AUTOPOLL_SHARDS__MAIN__BACKEND": "no such backend"}
    testing = start(temporary, "--json", **own)
    out, err = testing.communicate(timeout=110)
    assert testing.returncode == 0, out + err
    assert err == ""
    outcomes = {each["fault"]: each for each in map(json.loads, out.splitlines())}
    assert set(outcomes) == FAULTS
    for fault, outcome in outcomes.items():
        assert (outcome["lost"], outcome["twice"]) == (0, 0), fault
        assert outcome["noticed_ms"] >= 0, fault
        assert outcome["answered_ms"] > 0, fault
    for fault in FAULTS:
        assert "stopped" not in fault or outcomes[fault]["noticed_ms"] < 8000, fault
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_self_test_that_is_interrupted_leaves_nothing(temporary, number) -> None:
    testing = start(temporary)
    assert testing.stderr
    until(lambda: "backend deadlocked" in testing.stderr.readline(), 60, "the first faults")
    assert running_in(temporary)
    testing.send_signal(number)
    _, err = testing.communicate(timeout=30)
    assert testing.returncode == 130, err
    assert "Traceback" not in err
