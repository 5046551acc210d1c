"""Signals, children and what they have started: all of it holds where there are no pidfds."""

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
# What a process died of nobody tells without a pidfd.
CHOSEN = "(test_signals and not died_of) or detached"


def test_the_tests_of_signals_and_children_pass_under_a_filter() -> None:
    files = [TESTS / "process" / name for name in ("test_signals.py", "test_command_backend.py")]
    done = subprocess.run(
        [
            *(sys.executable, TESTS / "without.py", "pidfd_open,pidfd_send_signal"),
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", CHOSEN),
            *files,
        ],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
