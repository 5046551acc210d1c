"""The poller's socket as both ends see it: its address, and how to connect to it."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Yield an address for a socket's path of any length, of which the kernel takes 107 bytes.

    A link in the place of its folder is not followed. Raises OSError when there is no folder.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connected(path: Path, seconds: float) -> socket.socket | None:
    """Return a connection to whatever listens on the socket; None where none can be had in time.

    Also where no descriptor is left for it.
    """
    with ExitStack() as undo:
        try:
            if not stat.S_ISSOCK(path.lstat().st_mode):
                return None
            found = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            found.settimeout(seconds)
            with short_address(path) as address:
                found.connect(address)
        except OSError:
            return None
        undo.pop_all()
    return found
