"""A UNIX socket, with blocking calls at both ends: its best case."""

import os
import socket
from pathlib import Path

from bench.ipc.blocking import Blocking
from bench.ipc.server import start
from bench.ipc.tcp import PATIENCE_S, accepted


class Unix(Blocking):
    """One connection over a stream socket in the folder."""

    name = "unix"

    def _join(self, folder: Path) -> None:
        path = folder / "socket"
        path.unlink(missing_ok=True)  # a predecessor's: bind refuses a path that is there
        with socket.socket(socket.AF_UNIX) as listener:
            # By a short name, for a path over 107 bytes cannot be an address.
            holder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._stack.callback(os.close, holder)
            address = f"/proc/{os.getpid()}/fd/{holder}/{path.name}"
            listener.bind(address)
            self._stack.callback(path.unlink, missing_ok=True)
            listener.listen()
            listener.settimeout(PATIENCE_S)
            self.server = start(self._stack, "blocking", "unix", address)
            joined = accepted(self, listener, self.server)
        self.reader = self.writer = self._stack.enter_context(joined).fileno()
