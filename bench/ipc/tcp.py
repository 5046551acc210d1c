"""A TCP connection over the loopback, with blocking calls at both ends: its best case."""

import socket
from pathlib import Path
from subprocess import Popen

from bench.ipc.blocking import Blocking
from bench.ipc.contract import Channel
from bench.ipc.server import start

PATIENCE_S = 30.0  # how long a server may take to call


class Tcp(Blocking):
    """One connection, without Nagle's delay."""

    name = "tcp"

    def _join(self, folder: Path) -> None:
        with listening() as listener:
            self.server = start(self._stack, "blocking", "tcp", listener.getsockname()[1])
            joined = accepted(self, listener, self.server)
        self.reader = self.writer = self._stack.enter_context(joined).fileno()


def listening() -> socket.socket:
    """Return a socket on a free port of the loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE_S)
    return listener


def accepted(channel: Channel, listener: socket.socket, server: Popen[bytes]) -> socket.socket:
    """Return the connection that the server has made; raise ConnectionError when it makes none."""
    try:
        joined, _ = listener.accept()
    except TimeoutError as error:
        said = f"exit {server.poll()}"
        raise ConnectionError(f"the server of {channel.name} does not call: {said}") from error
    joined.settimeout(None)
    if joined.family == socket.AF_INET:
        joined.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return joined
