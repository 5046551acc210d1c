"""What every role does at its start and its end, in a process of its own."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autopoll.home.home import Home

ROLE = """
import asyncio, sys, time
from pathlib import Path
from autopoll.home.home import Home
from autopoll.process import role

async def main():
    stopping = asyncio.Event()
    role.end_by(lambda: (print("stop"), stopping.set()))
    print("listens", await role.wait(stopping, 0.01), flush=True)
    print("ends", await role.wait(stopping, 60))

root = Path(sys.argv[1])
with role.alone(Home(root), "role"):
    print("alone", flush=True)
    while not (root / "go").exists():
        time.sleep(0.01)
    asyncio.run(main())
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make_private()
    return home


def start(home: Home, go: bool = True) -> "subprocess.Popen[str]":
    if go:
        (home.root / "go").touch()
    role = subprocess.Popen(
        [sys.executable, "-c", ROLE, str(home.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert role.stdout
    assert role.stdout.readline() == "alone\n"
    return role


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_before_there_is_a_handler_is_kept_for_it(home, number) -> None:
    role = start(home, go=False)
    role.send_signal(number)
    (home.root / "go").touch()
    assert role.wait(timeout=20) == 0  # with its standard input still open
    assert role.communicate() == ("stop\nlistens True\nends True\n", "")


def test_the_end_of_supervisord_is_an_end_like_that_by_term(home) -> None:
    role = start(home)
    assert role.stdout
    assert role.stdout.readline() == "listens False\n"
    out, err = role.communicate(timeout=20)  # closes its standard input
    assert (role.returncode, out, err) == (0, "stop\nends True\n", "")


def test_a_second_process_of_the_same_name_does_not_start(home) -> None:
    first = start(home)
    second = subprocess.run(
        [sys.executable, "-c", ROLE, str(home.root)], capture_output=True, text=True, timeout=20
    )
    assert second.returncode == 1
    assert f"role is running already, as process {first.pid}" in second.stderr
    first.communicate(timeout=20)
    start(home).communicate(timeout=20)
