"""Who holds a lock is told without taking it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autopoll.errors import AlreadyRunning
from autopoll.lock import acquire, hold, holder_of

HOLDER = """
import sys
from pathlib import Path
from autopoll.lock import hold
with hold(Path(sys.argv[1]), "a test"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A lock that another process holds."""
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield path, process
        process.kill()


def test_the_holder_is_named_until_it_is_dead(held) -> None:
    path, process = held
    assert holder_of(path) == process.pid
    with pytest.raises(AlreadyRunning, match=str(process.pid)):
        acquire(path, "a test")
    process.kill()
    process.wait()
    assert holder_of(path) is None


def test_a_lock_that_nobody_holds_or_nobody_made_has_no_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder_of(path) is None
    with hold(path, "a test"):
        assert holder_of(path) == os.getpid()
    assert holder_of(path) is None
    path.write_text("no number\n")
    assert holder_of(path) is None
