"""`make demo`, as a stranger runs it: to its end, interrupted, and with a promise broken."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scratch_folder import scratch_folder

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
HOSTS = "demo/hosts.py"


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where the demo makes its home."""
    with scratch_folder("d") as folder:
        yield folder


def start(checkout: Path, scratch: Path, program: str = "demo") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, program],
        cwd=checkout,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_demo_keeps_its_promises_and_leaves_nothing(scratch) -> None:
    demo = start(ROOT, scratch)
    out, err = demo.communicate(timeout=120)
    assert demo.returncode == 0, out + err
    assert len(re.findall(r"Sources: \S+:\d+-\d+", out)) == 7
    assert "progress: question " in out
    assert "kill -9" in out
    assert "answered all the same, once, by attempt 2" in out
    # By which signal is only known if the watchdog looks before supervisord has reaped it.
    assert re.search(r"^  \S+ +worker-slow-1 +dead +left to supervisord ", out, re.M)
    assert re.search(r"^  worker-slow-1 +worker +idle .* 1 ", out, re.M)
    assert "no process is left" in out
    assert "\x1b" not in out, "colour without a terminal"


def test_the_demo_of_two_hosts_keeps_its_promises_and_leaves_nothing(scratch) -> None:
    demo = start(ROOT, scratch, HOSTS)
    out, err = demo.communicate(timeout=180)
    assert demo.returncode == 0, out + err
    assert "kill -9" in out
    assert "answered all the same, once, by attempt 2, on host two" in out
    assert re.search(r" \S+/one .* no +main, slow ", out), "the dead host is shown as such"
    assert "there still is exactly one answer" in out
    assert "no process is left, and no server" in out
    no_server_is_left(out)


@pytest.mark.parametrize("line", ["on host two:", "signs of progress"])
def test_a_demo_of_two_hosts_that_is_interrupted_leaves_nothing(scratch, line) -> None:
    demo = start(ROOT, scratch, HOSTS)
    assert demo.stdout
    read = []
    for each in demo.stdout:
        read.append(each)
        if line in each:
            break
    demo.send_signal(signal.SIGTERM)
    _, err = demo.communicate(timeout=120)
    assert demo.returncode == 130, err
    no_server_is_left("".join(read))


def no_server_is_left(out: str) -> None:
    """See that the folder of the server is gone, which is ended before that."""
    [name] = set(re.findall(r"%2F(autopoll-postgres-\w+)", out))
    assert not (Path("/tmp") / name).exists()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_leaves_nothing(scratch, number) -> None:
    demo = start(ROOT, scratch)
    assert demo.stdout
    for line in demo.stdout:
        if "signs of progress" in line:
            break
    demo.send_signal(number)
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 130, err
    assert "interrupted" in err


def test_a_demo_whose_pages_answer_nothing_says_so_and_fails(scratch, tmp_path) -> None:
    shutil.copytree(ROOT / "demo", tmp_path / "demo")
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "CONTRIBUTING.md"):
        (tmp_path / name).write_text("Nothing here.\n")
    demo = start(tmp_path, scratch)
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 1, out + err
    assert "demo: not true: the answer to" in err
    assert "names its sources" in err
