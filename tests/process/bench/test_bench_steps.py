"""The layers whose instructions are counted can be run: each checks what comes back by itself."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("layer", ["loop", "frames", "sessions", "links", "worker"])
def test_a_layer_exchanges_as_many_payloads_as_it_is_told(layer) -> None:
    command = [sys.executable, "-m", "bench.steps", "--layer", layer, "--count", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
