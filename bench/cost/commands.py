"""The command line as whole processes, beside an interpreter that does nothing."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from autopoll.ops.selftest.scratch_home import Scratch
from bench.cost.figures import Figure, Say, interleave

SECTION = "idle"
ROUNDS = 21
BARE, USAGE, ASK = "python -c pass", "autopoll --help", "autopoll ask"
TIMES = {USAGE: 5.0, ASK: 3.0}  # a bare interpreter


def measure(scratch: Scratch, scale: float, say: Say) -> list[Figure]:
    """Return what a command takes from start to end in a home that is up."""
    script = str(Path(sys.executable).with_name("autopoll"))
    lines = {
        BARE: [sys.executable, "-c", "pass"],
        USAGE: [script, "--help"],
        ASK: [script, "ask", "--home", str(scratch.home.root), "what is this?"],
    }
    laps = {name: partial(_seconds, line, scratch) for name, line in lines.items()}
    found = interleave(laps, max(1, round(ROUNDS * min(scale, 1))), say)
    bare = found[BARE].p50
    return [
        Figure(
            section=SECTION,
            name=name,
            value=each.p50 * 1000,
            unit="ms",
            ratio=None if name == BARE else each.p50 / bare,
            floor=None if name == BARE else BARE,
            target=TIMES.get(name),
        )
        for name, each in found.items()
    ]


def _seconds(line: list[str], scratch: Scratch) -> list[float]:
    start = time.perf_counter()
    subprocess.run(
        line,
        env=scratch.environ,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    return [time.perf_counter() - start]
