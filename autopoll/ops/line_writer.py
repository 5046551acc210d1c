"""Lines for the reader of a stream: a slow reader loses lines and never blocks the writer."""

import os
import select
import socket
import stat

from autopoll.clock import wall_ms
from autopoll.home.log_line import log_fields, log_line

STDOUT, STDERR = 1, 2
_LONGEST = 4096  # bytes that a pipe takes whole or not at all (PIPE_BUF)


class LineWriter:
    """Writes to a descriptor that may be a pipe, a socket, a terminal or a file.

    `as_json` makes each line an object with `at`, `level`, `process` and `message`.
    """

    def __init__(self, descriptor: int, *, as_json: bool = False) -> None:
        self._lost = 0
        self._as_json = as_json
        self._socket: socket.socket | None = None
        mode = os.fstat(descriptor).st_mode
        self._fd, self._waits = _own(descriptor, mode)
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=self._fd)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)

    def write_line(self, text: str, *, process: str = "supervisord", level: str = "info") -> None:
        """Write a line, made harmless; drop it when the write would block."""
        if self._lost and self._put(
            f"({self._lost} lines were not read in time)", process, "warning"
        ):
            self._lost = 0
        if self._lost or not self._put(text, process, level):
            self._lost += 1

    def _put(self, text: str, process: str, level: str) -> bool:
        plain = "".join(char if char.isprintable() else " " for char in text[:_LONGEST])
        if self._as_json:
            fields = log_fields(process, level, wall_ms() / 1000)
            whole = log_line({**fields, "message": plain})
            # One character may be written as twelve.
            cut_off = {**fields, "message": plain[: _LONGEST // 12 - 20]}
            plain = whole if len(whole) < _LONGEST else log_line(cut_off)
        line = plain.encode("utf-8", "replace")[: _LONGEST - 1] + b"\n"
        try:
            if self._socket:
                return self._socket.send(line, socket.MSG_DONTWAIT) == len(line)
            if self._waits and not self._poll.poll(0):
                return False
            return os.write(self._fd, line) == len(line)
        except OSError:  # full, or its reader is gone
            return False


def _own(descriptor: int, mode: int) -> tuple[int, bool]:
    """Return a descriptor of the same stream that is ours alone, and whether a write may block.

    That is a property of the open file, which we share with our parent; so it is opened once more,
    where that is possible.
    """
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return os.open(f"/proc/self/fd/{descriptor}", flags), False
        except OSError:
            return os.dup(descriptor), True  # it belongs to another user
    return os.dup(descriptor), True
