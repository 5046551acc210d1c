"""Two bare pipes with blocking calls: the floor, below which no pipe library can go."""

import fcntl
from contextlib import suppress
from pathlib import Path
from subprocess import Popen

from bench.ipc.blocking import Blocking
from bench.ipc.server import start
from fifo.pipe import CAPACITY


class Pipes(Blocking):
    """The stdin and the stdout of the server."""

    name = "pipes"

    def _join(self, folder: Path) -> None:
        self.server = start(self._stack, "blocking", "pipes")
        self.reader, self.writer = widened(self.server)


def widened(server: Popen[bytes]) -> tuple[int, int]:
    """Return the pipes from and to a server, as wide as those of the library."""
    if server.stdin is None or server.stdout is None:
        raise ValueError("the server has no pipes")
    ends = server.stdout.fileno(), server.stdin.fileno()
    for end in ends:
        with suppress(PermissionError):  # over this user's share of pipe memory: it works as it is
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, CAPACITY)
    return ends
