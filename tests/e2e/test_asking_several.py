"""One question to several shards: answers side by side, and a reason where there is none."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from place import Place, until

from autopoll.home.home import socket_path
from autopoll.process.supervisor_rpc import Supervisor

DATA = Path(__file__).parents[1] / "data"
CONFIG = f"""
[shards.main]
backend = "echo"
[shards.late]
backend = "command"
[shards.late.options]
command = ["{sys.executable}", "{DATA / "gated.py"}"]
[shards.gone]
backend = "echo"
[shards.tired]
backend = "command"
[shards.tired.options]
command = ["{sys.executable}", "{DATA / "moody.py"}"]
"""
ALL = "main,late,gone,tired"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A home in which shard gone was stopped by hand and shard tired has no quota left."""
    with Place(tmp_path_factory.mktemp("several") / "home", CONFIG).running() as place:
        open_gate(place)
        Supervisor(socket_path(place.home)).stop("worker-gone-1", wait=True)
        (place.root / "mood").write_text("quota 600000")
        place.run("ask", "once", "--shard", "tired", "--timeout", "1s", code=5)
        yield place


def open_gate(place: Place) -> None:
    """Let shard late answer."""
    (place.root / "go").touch()


@contextmanager
def gate_shut(place: Place) -> Iterator[None]:
    """Keep shard late from answering."""
    (place.root / "go").unlink()
    try:
        yield
    finally:
        open_gate(place)


def on_terminal(place: Place, *args: str, columns: int) -> tuple[str, int]:
    """Run a command on a terminal of so many columns; return what is on it, and the exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    environ = {name: each for name, each in place.environ.items() if name != "COLUMNS"}
    process = subprocess.Popen(
        [*place.command, *args],
        cwd=place.root,
        env={**environ, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return shown.decode(), process.wait(30)


def test_each_answer_comes_under_its_heading_when_it_is_there(place: Place) -> None:
    with gate_shut(place):
        asking = place.start("ask", "you?", "--shard", "late,main")
        assert asking.stdout
        first = [asking.stdout.readline() for _ in range(2)]
        assert (first[0].split(",")[0], first[1]) == ("--- shard main", "you?\n")
    rest = asking.stdout.read()
    assert (asking.wait(60), rest.strip().split(",")[0]) == (0, "--- shard late")
    assert rest.endswith("you?\n\n")


def test_the_answers_stand_side_by_side_on_a_wide_terminal(place: Place) -> None:
    shown, code = on_terminal(place, "ask", "you?", "--shard", "main,late", columns=100)
    assert code == 0
    final = shown.rpartition("\x1b[2K")[2]
    [heads] = [line for line in final.splitlines() if "main" in line]
    assert "late" in heads
    [row] = [line for line in final.splitlines() if "you?" in line]
    assert row.count("you?") == 2


def test_the_answers_stand_one_below_another_on_a_narrow_terminal(place: Place) -> None:
    shown, code = on_terminal(place, "ask", "you?", "--shard", "main,late", columns=60)
    assert code == 0
    assert "--- shard main" in shown and "--- shard late" in shown


def test_what_a_shard_says_cannot_move_the_cursor(place: Place) -> None:
    shown, _ = on_terminal(place, "ask", "a\x1b[31mb", "--shard", "main,late", columns=100)
    assert "\x1b[31m" not in shown


@pytest.mark.long
def test_a_shard_that_cannot_answer_says_why_beside_the_others(place: Place) -> None:
    done = place.run("ask", "you?", "--shard", ALL, "--timeout", "60s", code=2)
    said = dict(part.split("\n", 1) for part in done.stdout.split("--- shard ")[1:])
    of = {heading.split(",")[0]: text for heading, text in said.items()}
    assert of["main"].strip() == of["late"].strip() == "you?"
    assert "was stopped by hand" in of["gone"]
    assert "paused: quota until" in of["tired"]
    assert "autopoll answer" in of["gone"]


@pytest.mark.long
def test_one_object_a_line_is_printed_for_each_shard_and_what_is_missing_is_said(place) -> None:
    done = place.run("ask", "you?", "--shard", ALL, "--timeout", "60s", "--json", code=2)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["shard"]: line["status"] for line in lines} == {
        "main": "answered",
        "late": "answered",
        "gone": "pending",
        "tired": "pending",
    }
    errors = [json.loads(line) for line in done.stderr.splitlines()]
    assert sorted(error["error"].split(":")[0] for error in errors) == ["shard gone", "shard tired"]


def test_an_unknown_name_is_refused_before_anything_is_sent(place: Place) -> None:
    before = len(place.json_lines("messages", "--limit", "1000"))
    for names in ("main,mian", "main,,late", "", "../main", "ä,MAIN"):
        told = place.run("ask", "x", "--shard", names, code=2)
        assert "there is no shard" in told.stderr and "There are: main, late" in told.stderr
    assert len(place.json_lines("messages", "--limit", "1000")) == before


def test_a_shard_named_twice_is_asked_once(place: Place) -> None:
    assert len(place.json_lines("ask", "x", "--shard", "late, main,late")) == 2


def test_a_time_out_exits_5_and_shows_what_came(place: Place) -> None:
    ask = ("ask", "x", "--shard", "main,late", "--timeout", "1s")

    def states() -> dict[str, str]:
        return {line["shard"]: line["status"] for line in place.json_lines(*ask, code=5)}

    with gate_shut(place):
        until(lambda: states() == {"main": "answered", "late": "pending"}, what="main in time")


def test_a_shard_whose_token_was_revoked_says_so_beside_the_others(place: Place) -> None:
    kept = json.loads(place.home.credentials.read_text())["shards"]["late"]
    place.run("conversations", "revoke", kept, "a")
    try:
        told = place.run("ask", "x", "--shard", "main,late", code=4)
        assert "--- shard late\n(" in told.stdout and "rotating" in told.stdout
        assert "--- shard main" in told.stdout
    finally:
        place.run("conversations", "rotate", kept, "a")


def test_an_interrupt_says_how_to_fetch_every_answer(place: Place) -> None:
    with closing(place.bridge()) as bridge, gate_shut(place):
        before = max(message.id for message in bridge.messages.find())
        asking = place.start_ask("still?", "--shard", "main,late")

        def stored() -> bool:  # and not: busy, which it may be with the question of another test
            later = bridge.messages.find(after=before)
            return sum(json.loads(each.text).get("question") == "still?" for each in later) == 2

        until(stored, what="both questions to be stored")
        asking.send_signal(signal.SIGINT)
        _, err = asking.communicate(timeout=60)
    assert asking.returncode == 130
    assert len(err.rpartition("autopoll answer ")[2].split()) == 2
