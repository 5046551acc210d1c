"""How commands end on a home that runs: with a reader that is gone, and on a terminal."""

import json
import os
import pty
import subprocess
import termios
from collections.abc import Iterator

import pytest
from place import Place

from autopoll.errors import Exit
from autopoll.text import visible

EVIL = "\x1b]0;gone\x07 \x9b2J \u202e grüße \r\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One home for all tests of this file; each leaves it up."""
    with Place(tmp_path_factory.mktemp("h")).running() as place:
        yield place


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
