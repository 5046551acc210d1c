"""`python -m bench.cost`, interrupted in the middle of a section that has processes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from place import until
from reports import write_sections

ROOT = Path(__file__).parents[3]
# The section keeps a child for as long as it measures, and a file, as real ones do.
BODY = """import subprocess, sys, time
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        try:
            say("has begun")
            time.sleep(600)
        finally:
            child.kill()"""
MAIN = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from bench.cost import sections
sections.SECTIONS = {"endless": "fake_endless"}
from autopoll.cli import run
from bench.cost.__main__ import bench
sys.exit(run(bench, sys.argv[1:]))
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "here").mkdir()
    write_sections(tmp_path / "modules", {"endless": BODY})
    started = []

    def start(*before: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [*before, sys.executable, "-c", MAIN, str(tmp_path / "modules")],
                cwd=tmp_path / "here",
                env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "disk")},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.terminate()  # a kill would leave the section's child
        process.communicate(timeout=30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_interrupted_leaves_nothing(start, tmp_path, number) -> None:
    running = start()
    assert running.stderr
    until(lambda: "endless: has begun" in running.stderr.readline(), 30, "the section")
    [child] = psutil.Process(running.pid).children()
    assert list((tmp_path / "disk").rglob("data.db"))
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert not child.is_running()
    assert list((tmp_path / "disk").iterdir()) == []
    assert list((tmp_path / "here").iterdir()) == []


def test_a_run_under_nohup_does_not_hear_the_terminal_hang_up(start) -> None:
    running = start("nohup")
    assert running.stderr
    until(lambda: "endless: has begun" in running.stderr.readline(), 30, "the section")
    status = Path(f"/proc/{running.pid}/status").read_text()
    ignored = int(re.search(r"^SigIgn:\s*(\w+)", status, re.M)[1], 16)
    assert ignored >> (signal.SIGHUP - 1) & 1
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 130
