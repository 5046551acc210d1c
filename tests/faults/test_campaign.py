"""The fault campaign of `make faults`, for a minute."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SECONDS = 60


@pytest.mark.timeout(SECONDS + 240)
def test_a_minute_of_random_faults_loses_doubles_and_disorders_nothing(tmp_path) -> None:
    seed = os.environ.get("AUTOPOLL_TEST_SEED") or str(random.randrange(2**32))
    plot = tmp_path / "recovery.svg"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench.campaign",
            "--seconds",
            str(SECONDS),
            "--seed",
            seed,
            "--out",
            plot,
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS + 220,
    )
    assert done.returncode == 0, f"seed {seed}:\n{done.stdout}\n{done.stderr}"
    assert f"seed {seed}" in done.stdout
    assert "none twice" in done.stdout
    assert plot.read_text().startswith("<svg")
