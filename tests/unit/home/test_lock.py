"""Who holds a lock is told without taking it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autopoll.errors import AlreadyRunning
from autopoll.home import lock
from autopoll.home.lock import acquire, hold, holder_of

HOLDER = """
import sys
from pathlib import Path
from autopoll.home.lock import hold
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


@pytest.mark.parametrize(
    ("pid", "device", "inode", "holder"),
    [
        pytest.param(7, "own", "own", 7, id="plain"),
        pytest.param(7, "00:28", "own", 7, id="a btrfs or an overlay names another device"),
        pytest.param(4711, "own", "own", 4711, id="in a container it has another number"),
        pytest.param(4711, "00:28", "own", None, id="another lock of another process"),
        pytest.param(7, "own", "1", None, id="another lock of this process"),
    ],
)
@pytest.mark.parametrize("form", ["{}", "lock:\t{}"], ids=["/proc/locks", "fdinfo"])
def test_the_holder_is_the_process_that_the_kernel_names(
    tmp_path: Path, monkeypatch, form: str, pid: int, device: str, inode: str, holder: int | None
) -> None:
    path = tmp_path / "lock"
    path.write_text("7\n")
    place = path.stat()
    own = f"{os.major(place.st_dev):02x}:{os.minor(place.st_dev):02x}"
    lies = f"{own if device == 'own' else device}:{place.st_ino if inode == 'own' else inode}"
    line = form.format(f"3: FLOCK  ADVISORY  WRITE {pid} {lies} 0 EOF")
    monkeypatch.setattr(lock, "_locks", lambda named: [f"3: -> {line}", line])
    assert holder_of(path) == holder


def test_a_lock_is_tried_where_the_kernel_lists_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_ALL", tmp_path / "no such list")
    path = tmp_path / "lock"
    with hold(path, "the test"):
        path.write_text("1\n")  # of a process that has other things open, as a container's
        assert holder_of(path) == 1
    assert holder_of(path) is None
