"""The one way out to stdout and stderr, for text, tables and JSON.

Text for people is made harmless on every stream, terminal or not; JSON says exactly what there is.
Output that cannot be written is an error of its own: a reader that is gone ends the command in
silence, as SIGPIPE would, and anything else is said.
"""

import errno
import os
import select
import sys
from typing import TextIO

from autopoll.text import visible, visible_json


class ReaderGone(Exception):
    """The reader of our output has gone."""


class OutputLost(Exception):
    """Standard output is closed or cannot take more; the work itself is done."""


def prepare() -> None:
    """Make the standard streams fit for any text, and keep their numbers from other files.

    With one of them closed, the next file that is opened would get its number, and what is printed
    would be written into that file. What we become, or start, finds them open as well.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(opened, True)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and isinstance(stream, type(sys.__stdout__)):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text for people; raise ReaderGone or OutputLost when stdout does not take it."""
    write(visible(text) + ("\n" if nl else ""), err=err)


def write(text: str, *, err: bool = False) -> None:
    """Print text as it is: what others wrote has been made visible, and the rest is ours."""
    stream = sys.stderr if err else sys.stdout
    encoding = (stream and stream.encoding) or "utf-8"
    _put(stream, text.encode(encoding, "backslashreplace"), err=err)


def encodable(text: str, instead: str | None = None) -> str:
    """Return text as stdout shows it: escapes, or `instead`, for what its encoding lacks."""
    encoding = (sys.stdout and sys.stdout.encoding) or "utf-8"
    shown = text.encode(encoding, "backslashreplace").decode(encoding)
    return shown if instead is None or shown == text else instead


def write_json(data: bytes, *, err: bool = False) -> None:
    """Print one JSON value on a line of its own, in UTF-8 whatever the locale."""
    _put(sys.stderr if err else sys.stdout, visible_json(data) + b"\n", err=err)


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a person looks at it; False when it is closed."""
    return stream is not None and stream.isatty()


def descriptor() -> int | None:
    """Return the number of stdout; None when it is closed or a stream in memory."""
    return None if sys.stdout is None else _descriptor(sys.stdout)


def require_reader() -> None:
    """Raise ReaderGone when nobody reads stdout any more; for what may print nothing for long."""
    if (number := descriptor()) is not None:
        poll = select.poll()
        poll.register(number, 0)
        if any(found & select.POLLERR for _, found in poll.poll(0)):
            raise ReaderGone


def finish() -> None:
    """Hand over what libraries have printed and is still held back; raises as `say` does."""
    if sys.stdout is not None:
        _put(sys.stdout, b"", err=False)


def _put(stream: TextIO | None, data: bytes, *, err: bool) -> None:
    try:
        if stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        stream.flush()
        if (descriptor := _descriptor(stream)) is not None:
            _write_all(descriptor, data)
        else:
            stream.buffer.write(data)
            stream.flush()
    except OSError as error:
        if err:
            return  # it cannot be said anywhere, and the exit code shows it
        _close()
        if error.errno in (errno.EPIPE, errno.ECONNRESET):
            raise ReaderGone from error
        raise OutputLost(
            "closed" if error.errno == errno.EBADF else (error.strerror or str(error))
        ) from error


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except OSError:  # a stream in memory
        return None


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # a process that shares the file made it non-blocking
            select.select([], [descriptor], [])


def _close() -> None:
    """Send whatever is still to come nowhere: Python flushes once more at exit, and complains."""
    if sys.stdout is not None and (descriptor := _descriptor(sys.stdout)) is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
