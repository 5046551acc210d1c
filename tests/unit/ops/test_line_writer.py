"""Lines for a reader who may be slow, stopped or gone."""

import fcntl
import json
import os
import socket
from pathlib import Path

import pytest

from autopoll.ops.line_writer import LineWriter


def drained(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    found = b""
    while True:
        try:
            part = os.read(descriptor, 65536)
        except BlockingIOError:
            return found
        if not part:
            return found
        found += part


@pytest.fixture(params=["pipe", "socket"])
def stream(request: pytest.FixtureRequest):
    """A stream that fills up: the end that we write to, and the reader's."""
    if request.param == "pipe":
        near, far = os.pipe()
        fcntl.fcntl(far, fcntl.F_SETPIPE_SZ, 4096)
        yield far, near
    else:
        one, other = socket.socketpair()
        yield one.detach(), (near := other.detach())
    os.close(near)


def test_a_reader_that_stands_still_loses_lines_and_holds_up_nobody(stream) -> None:
    far, near = stream
    writer = LineWriter(far)
    for number in range(10_000):  # a write that waited would never return
        writer.write_line(f"line {number} " + "x" * 100)
    first = drained(near).decode().splitlines()
    assert first[0].startswith("line 0 ")
    assert 0 < len(first) < 10_000
    writer.write_line("read again")
    assert drained(near).decode().splitlines() == [
        f"({10_000 - len(first)} lines were not read in time)",
        "read again",
    ]
    os.close(far)


def test_a_pipe_of_another_user_that_is_full_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    near, far = os.pipe()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        writer = LineWriter(far)
    for number in range(10_000):
        writer.write_line(f"line {number}")
    assert drained(near).startswith(b"line 0\nline 1\n")
    os.close(near)
    os.close(far)


def test_what_is_shared_with_others_still_waits_for_them() -> None:
    near, far = os.pipe()
    LineWriter(far).write_line("line")
    assert os.get_blocking(far), "the pipe of whoever started us is as it was"
    os.close(near)
    os.close(far)


def test_a_reader_that_is_gone_is_no_error() -> None:
    near, far = os.pipe()
    writer = LineWriter(far)
    os.close(near)
    writer.write_line("to nobody")
    writer.write_line("to nobody")
    os.close(far)


def test_a_file_gets_every_line_after_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("before\n")
    with path.open("ab") as file:
        writer = LineWriter(file.fileno())
        for number in range(1000):
            writer.write_line(str(number))
    assert path.read_text().splitlines() == ["before", *map(str, range(1000))]


def test_a_line_is_one_line_and_cannot_move_the_cursor() -> None:
    near, far = os.pipe()
    writer = LineWriter(far)
    writer.write_line("a\x1b]52;c;x\x07b\r\nc\x9bd\ud83d" + "é" * 5000)
    [line] = drained(near).decode().splitlines()
    assert line.startswith("a ]52;c;x b  c d")
    assert len(line.encode()) < 4096
    os.close(near)
    os.close(far)


@pytest.mark.parametrize(
    "text", ["plain", "x" * 9000, "\N{GRINNING FACE}" * 4000, "\x1b[2J\n\0", ""]
)
def test_a_line_of_json_is_whole_whatever_its_length(text: str) -> None:
    near, far = os.pipe()
    LineWriter(far, as_json=True).write_line(text, process="worker", level="warning")
    data = os.read(near, 65536)
    assert len(data) <= 4096 and data.endswith(b"\n") and b"\x1b" not in data
    line = json.loads(data)
    assert (line["level"], line["process"], line["at"][-6:]) == ("warning", "worker", "+00:00")
    assert list(line) == ["at", "level", "process", "message"]
    assert text.startswith(line["message"]) or "\x1b" in text
    for descriptor in (near, far):
        os.close(descriptor)
