"""`autopoll top` on a terminal: keys, sizes, and the terminal as before, however it ends."""

import json
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from place import Place, until
from terminal import OnTerminal

from autopoll.errors import Exit
from autopoll.home.home import socket_path
from autopoll.process.supervisor_rpc import Supervisor

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
SHOW_CURSOR = "\x1b[?25h"
# In the thread that draws, and in the one that looks.
FAILING = [
    "import autopoll.cli.top_frame as broken\ndef fail(*_): 1 / 0\nbroken.frame = fail\n",
    "import autopoll.ops.home_snapshot as broken\ndef fail(*_): 1 / 0\nbroken.snapshot = fail\n",
]
START = (
    "from autopoll.__main__ import main\nimport sys; sys.argv[0] = 'autopoll'; sys.exit(main())\n"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One home for all tests of this file; each leaves it up."""
    with Place(tmp_path_factory.mktemp("h")).running() as place:
        yield place


@contextmanager
def on_terminal(
    place: Place, *command: str, size: tuple[int, int] = (80, 24), **env: str
) -> Iterator[OnTerminal]:
    words = [*(command or (*place.command, "top"))]
    terminal = OnTerminal(words, place.root, place.environ | env, size)
    try:
        yield terminal
    finally:
        terminal.close()


def is_raw(terminal: OnTerminal) -> bool:
    return not terminal.attributes()[3] & (termios.ICANON | termios.ECHO)


def require_restored(terminal: OnTerminal, shown: str) -> None:
    assert terminal.attributes() == terminal.before
    assert shown.rindex(LEAVE) > shown.rindex(ENTER)
    assert shown.rindex(SHOW_CURSOR) > shown.rindex("\x1b[?25l")


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("q", Exit.OK), ("\x04", Exit.OK), ("\x03", Exit.INTERRUPTED),
        (signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, -signal.SIGTERM),
        (signal.SIGHUP, -signal.SIGHUP), (signal.SIGQUIT, -signal.SIGQUIT),
    ],
)  # fmt: skip
def test_the_terminal_is_as_before_however_it_ends(place: Place, how: str | int, code: int) -> None:
    with on_terminal(place) as terminal:
        terminal.until(lambda: "watchdog" in terminal.text)
        assert ENTER in terminal.text and is_raw(terminal)
        if isinstance(how, str):
            # No shell has made it the terminal's foreground job, so ^C is sent as the kernel would.
            terminal.type(how) if how != "\x03" else terminal.signal(signal.SIGINT)
        else:
            terminal.signal(how)
        assert terminal.ends() == code
        require_restored(terminal, terminal.text)
        assert "Traceback" not in terminal.text


@pytest.mark.parametrize("failing", FAILING)
def test_the_terminal_is_as_before_after_a_bug(place: Place, failing: str) -> None:
    program = f"{failing}{START}"
    with on_terminal(place, sys.executable, "-c", program, "top") as terminal:
        assert terminal.ends() == Exit.FAILED
        require_restored(terminal, terminal.text)
        assert "bug" in terminal.text[terminal.text.rindex(LEAVE) :]


@pytest.mark.parametrize("stop", [signal.SIGTSTP, signal.SIGSTOP])
def test_it_goes_on_after_it_was_stopped(place: Place, stop: int) -> None:
    with on_terminal(place) as terminal:
        terminal.sees("watchdog")
        terminal.signal(stop)
        until(lambda: state(terminal.process.pid) == "T", what="the stop")
        if stop == signal.SIGTSTP:
            require_restored(terminal, ENTER + "\x1b[?25l" + terminal.read())
        else:  # as a shell does
            terminal.set_attributes(terminal.before)
        terminal.text = ""
        terminal.signal(signal.SIGCONT)
        terminal.sees(ENTER)
        terminal.sees("watchdog")
        assert is_raw(terminal)
        terminal.type("q")
        assert terminal.ends() == Exit.OK


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_it_is_drawn_again_when_the_terminal_changes_its_size(place: Place) -> None:
    with on_terminal(place, size=(200, 50)) as terminal:
        terminal.sees("restarts")
        terminal.resize(40, 12)
        terminal.signal(signal.SIGWINCH)
        terminal.sees("\x1b[2J")
        terminal.sees("\x1b[12;1H")
        terminal.resize(80, 24)
        terminal.signal(signal.SIGWINCH)
        terminal.sees("\x1b[24;1H")
        terminal.type("q")
        assert terminal.ends() == Exit.OK


def test_a_process_is_restarted_only_after_a_yes(place: Place) -> None:
    before = place.pid("worker")
    with on_terminal(place) as terminal:
        select_row(terminal, "worker")
        for answer in ("n", "\r", "q"):
            terminal.type("r")
            terminal.sees("Restart worker")
            terminal.type(answer)
            terminal.sees("nothing was changed")
        assert place.pid("worker") == before
        terminal.type("r")
        terminal.sees("[y/N]")
        terminal.type("y")
        terminal.sees("worker is up again")
        assert place.pid("worker") != before
        terminal.type("q")
        assert terminal.ends() == Exit.OK


@pytest.mark.long
def test_a_process_is_drained_and_its_log_is_shown(place: Place) -> None:
    with on_terminal(place) as terminal:
        select_row(terminal, "watchdog")
        terminal.type("l")
        terminal.sees("log of watchdog")
        terminal.type("\x1b")
        terminal.sees("q quit")
        terminal.type("d")
        terminal.sees("Drain watchdog?")
        terminal.type("y")
        terminal.sees("watchdog drains")
        terminal.sees("stopped")
        terminal.type("q")
        assert terminal.ends() == Exit.OK
    Supervisor(socket_path(place.home)).start("watchdog", wait=True)
    place.ready("watchdog")


def test_a_shard_is_paused_and_resumed(place: Place) -> None:
    with on_terminal(place, size=(100, 30)) as terminal:
        select_row(terminal, "main")
        terminal.type("r")
        terminal.sees("select a process")
        for question, done, paused in (
            ("Pause main?", "main is paused by", True),
            ("Resume main?", "main is resumed", False),
        ):
            terminal.type("p")
            terminal.sees(question)
            terminal.type("y")
            terminal.sees(done)
            [shard] = place.json("status", code=None)["shards"]
            assert (shard["paused"] is not None) == paused
        terminal.type("q")
        assert terminal.ends() == Exit.OK


def select_row(terminal: OnTerminal, name: str) -> None:
    terminal.sees("q quit")
    terminal.until(lambda: "watchdog" in terminal.text)
    for _ in range(9):
        if f"> {name}" in terminal.text:
            return
        terminal.text = ""
        terminal.type("\x1b[B")
        terminal.until(lambda: "> " in terminal.text, what="a selected row")
    raise AssertionError(f"no row {name}")


@pytest.mark.parametrize("way", ["no terminal", "dumb", "closed"])
def test_without_a_terminal_it_names_status(place: Place, way: str) -> None:
    if way == "dumb":
        with on_terminal(place, TERM="dumb") as terminal:
            assert terminal.ends() == Exit.USAGE
            assert "autopoll status" in terminal.text and "\x1b" not in terminal.text
        return
    line = f"{' '.join(place.command)} top" + (" <&- >&-" if way == "closed" else "")
    done = subprocess.run(
        ["bash", "-c", line], cwd=place.root, env=place.environ, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert "autopoll status" in done.stderr


def test_a_snapshot_is_one_object(place: Place) -> None:
    place.ask("one")
    found = json.loads(place.run("top", "--json").stdout)
    [shard] = found["shards"]
    assert shard["status"]["name"] == "main"
    assert (shard["waiting"], shard["oldest_s"]) == (0, None)
    assert shard["per_minute"] >= 1 and shard["p99_ms"] is not None
    assert found["status"]["ready"] is True
