"""How commands end on a home that runs: interrupted, with a reader that is gone, on a terminal."""

import json
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator

import pytest
from place import Place, until

from autopoll.errors import Exit
from autopoll.home.lock import holder_of
from autopoll.text import visible

SLOW = '[shards.main]\nbackend = "echo"\n[shards.slow]\nbackend = "echo"\noptions.delay = "2s"\n'
EVIL = "\x1b]0;gone\x07 \x9b2J \u202e grüße \r\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One home for all tests of this file; each leaves it up."""
    place = Place(tmp_path_factory.mktemp("h"), SLOW)
    place.run("up")
    yield place
    place.close()


def shell(place: Place, line: str, *, environ: dict[str, str] | None = None) -> tuple[int, str]:
    """Run `autopoll LINE` by bash; return autopoll's exit code, and what came out of it all."""
    command = " ".join(place.command)
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} {line}; exit ${{PIPESTATUS[0]}}"],
        cwd=place.root,
        env=place.environ | (environ or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=60,
    )
    assert "Traceback" not in done.stdout
    assert "bug" not in done.stdout
    return done.returncode, done.stdout


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
    out, err = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED, said + out + err
    assert "Traceback" not in err
    return err


def test_ctrl_c_in_restart_says_that_the_home_goes_down_and_how_it_comes_up(place: Place) -> None:
    asked = place.run("ask", "in flight", "--shard", "slow", "--no-wait", "--json")
    place.busy("worker-slow-1")
    said = interrupt(place, "restart", when="draining")
    assert "interrupted; " in said
    assert "goes down by itself" in said or "on its way" in said or "is down" in said
    assert "autopoll up" in said or "autopoll status" in said
    until(lambda: holder_of(place.home.locks / "supervisord.lock") is None, 60)
    place.run("up")
    number = str(json.loads(asked.stdout)["id"])
    assert place.json("answer", number)["status"] == "answered"


def test_ctrl_c_in_up_leaves_the_home_coming_up_and_says_so(place: Place) -> None:
    place.run("down")
    said = interrupt(place, "up", when="waiting for")
    assert "coming up" in said or "on its way" in said
    place.ready("worker", "poller", "watchdog", "worker-slow-1")


def test_ctrl_c_in_ask_names_the_question(place: Place) -> None:
    said = interrupt(place, "ask", "later", "--shard", "slow", when="question")
    number = said.split("autopoll answer ")[1].split()[0]
    assert place.json("answer", number)["answer"] == "later"


def test_a_reader_that_goes_ends_the_command_in_silence(place: Place) -> None:
    text = "line\n" * 50_000
    (place.root / "long").write_text(text)
    code, out = shell(place, "ask - < long | head -1")
    assert (code, out) == (Exit.READER_GONE, "line\n")


@pytest.mark.parametrize("way", [">/dev/full", ">&- 2>&-"])
def test_an_answer_that_cannot_be_printed_is_kept_and_named(place: Place, way: str) -> None:
    code, out = shell(place, f"ask precious {way}")
    assert code == Exit.FAILED
    if "2>" not in way:
        number = out.split("autopoll answer ")[1].split()[0]
        assert place.json("answer", number)["answer"] == "precious"


@pytest.mark.parametrize("environ", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
def test_what_a_question_and_an_answer_hold_drives_nothing(
    place: Place, environ: dict[str, str]
) -> None:
    (place.root / "evil").write_text(EVIL, newline="")
    code, out = shell(place, "ask - < evil", environ=environ)
    assert code == Exit.OK
    assert visible(out) == out
    assert "gr" in out
    code, out = shell(place, "ask - --json < evil", environ=environ)
    assert json.loads(out)["answer"] == EVIL
    code, out = shell(place, "messages", environ=environ)
    assert code == Exit.OK
    assert visible(out) == out


def test_on_a_narrow_terminal_only_our_own_sequences_come(place: Place) -> None:
    (place.root / "evil").write_text(EVIL, newline="")
    environ = place.environ | {"NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "40"}
    for args in (["ask", "-"], ["messages"]):
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 40))
        with (place.root / "evil").open() as stdin:
            process = subprocess.Popen(
                [*place.command, *args],
                cwd=place.root,
                env=environ,
                stdin=stdin,
                stdout=slave,
                stderr=slave,
            )
        os.close(slave)
        seen = b""
        try:
            while data := os.read(master, 65536):
                seen += data
        except OSError:  # the other end is closed: that is how a terminal ends
            pass
        os.close(master)
        assert process.wait(timeout=60) == Exit.OK
        assert b"\x1b]" not in seen and b"\x07" not in seen and b"\xc2\x9b" not in seen
        assert "\u202e".encode() not in seen
        assert b"\x1b[3" not in seen, "a colour"
