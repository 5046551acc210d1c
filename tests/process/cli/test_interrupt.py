"""Ctrl-C: a command ends soon, says how things stand and what to type, and the home goes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from place import Place, until

from autopoll.errors import Exit
from autopoll.home.lock import holder_of

GATED = Path(__file__).parents[2] / "data" / "gated.py"
CONFIG = f"""
[delivery]
drain_timeout = "24s"
[shards.main]
backend = "echo"
[shards.slow]
backend = "command"
options.command = ["{sys.executable}", "{GATED}"]
[shards.extra]
backend = "command"
options.command = ["{sys.executable}", "{GATED}"]
"""
# A package that is imported instead of click, and during whose import Ctrl-C is pressed.
INTERRUPTING = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(20)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One home for all tests of this file; each leaves it up."""
    with Place(tmp_path_factory.mktemp("h"), CONFIG).running() as place:
        yield place


@pytest.fixture(autouse=True)
def shut(place: Place) -> None:
    """Begin with the gate shut: shards slow and extra answer nothing until `open_gate`."""
    (place.root / "go").unlink(missing_ok=True)


def open_gate(place: Place) -> None:
    (place.root / "go").touch()


def in_flight(place: Place, worker: str) -> tuple[int, int | None]:
    """Return which process has which question in hand."""
    beat = place.busy(worker)
    return beat.pid, beat.request_id


def interrupt(place: Place, *args: str, when: str) -> str:
    """Run a command, press Ctrl-C when it says `when` on stderr, and return what it said then."""
    process = subprocess.Popen(
        [*place.command, *args],
        cwd=place.root,
        env=place.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    said = ""
    for line in process.stderr:
        said = line
        if when in line:
            process.send_signal(signal.SIGINT)
            break
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == Exit.INTERRUPTED, said + out + err
    assert "Traceback" not in err
    return err


@pytest.mark.long
def test_ctrl_c_in_restart_says_that_the_home_goes_down_and_how_it_comes_up(place: Place) -> None:
    asked = place.run("ask", "in flight", "--shard", "slow", "--no-wait", "--json")
    before = in_flight(place, "worker-slow-1")
    said = interrupt(place, "restart", when="draining")
    assert in_flight(place, "worker-slow-1") == before, "it waited for the drain"
    open_gate(place)
    assert "interrupted; " in said
    assert "goes down by itself" in said or "on its way" in said or "is down" in said
    assert "autopoll up" in said or "autopoll status" in said
    until(lambda: holder_of(place.home.locks / "supervisord.lock") is None, 60)
    place.run("up")
    number = str(json.loads(asked.stdout)["id"])
    assert place.json("answer", number)["status"] == "answered"


@pytest.mark.long
def test_ctrl_c_in_up_leaves_the_home_coming_up_and_says_so(place: Place) -> None:
    place.run("down")
    said = interrupt(place, "up", when="waiting for")
    assert "coming up" in said or "on its way" in said
    place.ready("worker", "poller", "watchdog", "worker-slow-1")


def test_ctrl_c_in_ask_names_the_question(place: Place) -> None:
    said = interrupt(place, "ask", "later", "--shard", "slow", when="question")
    open_gate(place)
    number = said.split("autopoll answer ")[1].split()[0]
    assert place.json("answer", number)["answer"] == "later"


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "shard", "when", "state", "mend"),
    [
        ("down", "slow", "draining", "goes down by itself", "up"),
        (
            "restart worker-slow-1",
            "slow",
            "draining",
            "worker-slow-1 is stopping and is not started again by itself",
            "restart worker-slow-1",
        ),
        ("health --deep", "slow", "checking", "nothing was changed", "health --deep"),
        ("reload", "extra", "waiting for", "some of the changed settings", "reload"),
        (
            "shards remove extra --force",
            "extra",
            "draining",
            "shard extra is not in the settings",
            "shards remove extra --force",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_ctrl_c_ends_a_command_soon_and_says_what_completes_it(
    place: Place, command: str, shard: str, when: str, state: str, mend: str
) -> None:
    place.run("ask", "in flight", "--shard", shard, "--no-wait")
    before = in_flight(place, f"worker-{shard}-1")
    if command == "reload":
        with place.home.config.open("a") as file:
            file.write("options.concurrency = 2\n")
    said = interrupt(place, *command.split(), when=when)
    assert in_flight(place, f"worker-{shard}-1") == before, "it waited for the question"
    assert f"interrupted; {state}" in said or f"{place.root} {state}" in said
    assert f"autopoll {mend.removesuffix(' --force')}" in said or "Run it again" in said
    mending = place.start(*mend.split())
    assert mending.stderr and mending.stderr.readline(), "it has begun while the question waits"
    open_gate(place)
    out, err = mending.communicate(timeout=120)
    assert mending.returncode == Exit.OK, out + err
    assert place.ask("and now?")["answer"] == "and now?"
    assert place.json("status")["ready"]


def test_ctrl_c_while_the_command_line_is_still_imported_ends_it_without_a_traceback(
    tmp_path: Path,
) -> None:
    (tmp_path / "click").mkdir()
    (tmp_path / "click" / "__init__.py").write_text(INTERRUPTING)
    done = subprocess.run(
        [sys.executable, "-m", "autopoll", "status"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (Exit.INTERRUPTED, "", "")
