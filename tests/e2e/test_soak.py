"""A slice of `make soak`: every process is restarted while it is asked, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from place import until
from scratch_folder import scratch_folder

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SECONDS = int(os.environ.get("AUTOPOLL_TEST_SOAK_SECONDS", "120"))
RATE = 200  # questions a second, because other tests run beside this one
PROCESSES = {"supervisord", "poller", "worker", "watchdog"}


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the soak makes its home."""
    with scratch_folder("ap-") as folder:
        yield folder


def start(temporary: Path, out: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.soak", "--out", out, "--window", "300", *args],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary), "AUTOPOLL_SHARDS__MAIN__BACKEND": "not ours"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(SECONDS + 240)
def test_a_home_stays_as_it_is_and_loses_nothing_while_every_process_is_restarted(
    temporary, tmp_path
) -> None:
    soaking = start(temporary, tmp_path / "out", "--seconds", str(SECONDS), "--rate", str(RATE))
    out, err = soaking.communicate(timeout=SECONDS + 220)
    assert "Traceback" not in err, err
    found = json.loads((tmp_path / "out" / "soak.json").read_text())
    # Other tests run beside this one, and latency is theirs as much as ours.
    faults = [fault for fault in found["faults"] if not fault.startswith("p99: ")]
    assert faults == [], f"{out}\n{err}"
    assert soaking.returncode == bool(found["faults"])
    assert [each["name"] for each in found["restarts"]] == [
        "poller", "worker", "watchdog", "everything",
    ]  # fmt: skip
    first, last = found["samples"][0], found["samples"][-1]
    assert set(first["held"]) == set(last["held"]) == PROCESSES
    assert all(first["held"][name]["pid"] != last["held"][name]["pid"] for name in PROCESSES)
    assert found["asked"] == last["asked"] > 1000
    assert (tmp_path / "out" / "soak.svg").read_text().lstrip().startswith("<?xml")


def test_a_soak_that_is_interrupted_leaves_nothing(temporary, tmp_path) -> None:
    soaking = start(temporary, tmp_path / "out")
    assert soaking.stdout
    until(lambda: "p99" in soaking.stdout.readline(), 60, "the first window")
    soaking.send_signal(signal.SIGINT)
    _, err = soaking.communicate(timeout=60)
    assert soaking.returncode == 130, err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
