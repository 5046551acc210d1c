"""Questions as they are given: in the command line, or on stdin."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from autopoll.errors import UsageError


def require_stdin() -> TextIO:
    """Return stdin; raise UsageError where the program was started without one."""
    if sys.stdin is None:
        raise UsageError(
            "stdin is closed", "Give it a file or a pipe, as in: autopoll ask - < FILE"
        )
    return sys.stdin


@contextmanager
def stdin_readable() -> Iterator[None]:
    """Raise UsageError for what keeps stdin from being read within the block."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"stdin cannot be read: {error.strerror}", "Give it a file or a pipe that can be."
        ) from error


def read_question(text: str, limit: int) -> str:
    """Return the text, or for `-` what stdin holds; raise UsageError when that is too much."""
    if text != "-":
        return text
    stdin = require_stdin().buffer
    with stdin_readable():
        data = stdin.read(limit + 1)
    return decoded(bounded(data, limit))


def read_lines(limit: int) -> list[str]:
    """Return the questions on stdin, one a line; raise UsageError when there is none."""
    questions = []
    stdin = require_stdin()
    while True:
        with stdin_readable():
            line = stdin.buffer.readline(limit + 1)
        if not line:
            break
        text = decoded(bounded(line, limit)).strip()
        if text:
            questions.append(text)
    if not questions:
        raise UsageError("stdin holds no question", "Give one a line.")
    return questions


def bounded(data: bytes, limit: int, what: str = "the question") -> bytes:
    """Return the bytes; raise UsageError for too many of them."""
    if len(data) > limit:
        raise UsageError(
            f"{what} is longer than {limit:,} bytes",
            "Shorten it, or raise delivery.max_message in autopoll.toml.",
        )
    return data


def decoded(data: bytes) -> str:
    """Return the text; raise UsageError for bytes that are none."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"stdin is not UTF-8 (byte {error.start})", "Convert it first, with iconv say."
        ) from None
