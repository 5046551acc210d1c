"""What a question costs through each door, shortened: it is measured, and nothing is left over."""

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from place import leaving_no_process, until

from bench.peers.child import has_ended

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "bench.doors", "--questions", "25", "--waiting", "5"]
DOORS = ["one process", "REST", "MCP over HTTP", "with progress", "with a handshake"]


def test_each_door_is_measured_and_the_memory_of_the_gateway(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with leaving_no_process():
        done = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    heading, *lines = done.stdout.splitlines()
    assert heading.startswith("door")
    rows = [line.strip() for line in lines if line.endswith("   25")]
    assert [row.split("  ")[0] for row in rows] == [*DOORS, "MCP over stdio"]
    assert "MB with 5 clients waiting" in lines[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_home_and_the_control(tmp_path, monkeypatch, number) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [*COMMAND, "--questions", "100000"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        ours = psutil.Process(process.pid)

        def are_asked() -> bool:
            """Whether the last door is open, that of MCP over stdio."""
            with suppress(psutil.NoSuchProcess):  # it has ended since it was listed
                return any(each.cmdline()[-1:] == ["mcp"] for each in ours.children())
            return False

        until(are_asked, what="every door to be open")
        started = ours.children(recursive=True)
        process.send_signal(number)
        process.wait(30)
    left = [each for each in started if not has_ended(each)]
    for each in left:
        each.kill()
    assert (process.returncode, left) == (130, [])
    assert list(tmp_path.iterdir()) == []
