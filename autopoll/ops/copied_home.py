"""Whether a home is the copy of another that is up, and would use that one's supervisord.

The socket of a home under a long path lies outside it, and in a copy conf/supervisord.conf names
that of the original.
"""

import os
import socket
from pathlib import Path

from autopoll.errors import ConfigError
from autopoll.home.home import Home, socket_path
from autopoll.home.lock import holder_of
from autopoll.process import orphans


def refuse_copy(home: Home) -> None:
    """Raise ConfigError when the supervisord of another home listens where ours would."""
    if is_copy(home):
        raise ConfigError(
            f"{home.root} is a copy of a home that is up: both name the socket {socket_path(home)}",
            f"Remove {home.supervisord_conf} and make one with: autopoll init '{home.root}'",
        )


def is_copy(home: Home) -> bool:
    """Tell whether another home's supervisord listens on the socket; cheap where it lies inside."""
    path = socket_path(home)
    if path.is_relative_to(home.root):
        return False
    # Whoever clears up after a supervisord holds its lock.
    if holder_of(home.supervisord_lock) not in (None, os.getpid()):
        return False
    # One that was started by hand holds no lock; what it has started carries our mark.
    mark = {"AUTOPOLL_SUPERVISED": str(home.supervisord_conf.parent)}
    return _listens(path) and not orphans.find(mark)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True  # a full queue: it is only hung
        except OSError:
            return False
    return True
