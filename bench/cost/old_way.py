"""What autopoll replaces: a script that polls every five seconds and spawns a process per query."""

import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from autopoll.backends.claude_code.program import bundled
from bench.cost.figures import Figure, Say, interleave

SECTION = "old-way"
POLL_S = 5.0
ROUNDS = 11
PYTHON = "python -c pass"
CLAUDE = "claude --version"
# What such scripts start for each query; of a real query, this is only the start.
COMMANDS = {
    PYTHON: [sys.executable, "-c", "pass"],
    "node -e 0": ["node", "-e", "0"],
    CLAUDE: ["claude", "--version"],
}


def measure(scale: float, folder: Path, say: Say) -> list[Figure]:
    """Return how long a query waits to be seen, and what the process for it takes to start."""
    found = {name: shutil.which(line[0]) for name, line in COMMANDS.items()}
    found[CLAUDE] = found[CLAUDE] or bundled()
    laps = {
        name: partial(_seconds, [path, *COMMANDS[name][1:]], folder)
        for name, path in found.items()
        if path is not None and _works([path, *COMMANDS[name][1:]], folder)
    }
    absent = [COMMANDS[name][0] for name in COMMANDS if name not in laps]
    note = f"not installed here, or broken: {', '.join(absent)}" if absent else ""
    spreads = interleave(laps, max(1, round(ROUNDS * min(scale, 1))), say)
    bare = spreads[PYTHON].p50
    waits = [
        Figure(
            section=SECTION,
            name=f"{which} wait for the next poll",
            value=seconds * 1000,
            unit="ms",
            note=f"computed: a poll every {POLL_S:g} s",
        )
        for which, seconds in (("mean", POLL_S / 2), ("longest", POLL_S))
    ]
    return waits + [
        Figure(
            section=SECTION,
            name=f"process per query: {name}",
            value=each.p50 * 1000,
            unit="ms",
            ratio=None if name == PYTHON else each.p50 / bare,
            floor=None if name == PYTHON else f"process per query: {PYTHON}",
            note=note if name == PYTHON else "",
        )
        for name, each in spreads.items()
    ]


def _works(line: list[str], folder: Path) -> bool:
    try:
        _seconds(line, folder)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _seconds(line: list[str], folder: Path) -> list[float]:
    start = time.perf_counter()
    subprocess.run(
        line,
        cwd=folder,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return [time.perf_counter() - start]
