"""Each measurement that is run by hand goes through, shortened, and leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest
from place import leaving_no_process

from bench.cost import sections

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", sections.SECTIONS)
def test_a_section_is_measured_and_leaves_no_process(name: str) -> None:
    said: list[str] = []
    with leaving_no_process():
        found = sections.run([name], 0.01, said.append)
    assert found.failures == []
    assert found.figures


@pytest.mark.parametrize("layer", ["loop", "frames", "sessions", "links", "worker"])
def test_a_layer_whose_steps_are_counted_exchanges_payloads(layer: str) -> None:
    command = [sys.executable, "-m", "bench.steps", "--layer", layer, "--count", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
