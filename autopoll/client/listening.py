"""Whether anybody is there to answer: the poller, or supervisord, which starts it again."""

from pathlib import Path

from autopoll.home.home import Home, socket_path
from autopoll.home.lock import holder_of
from autopoll.process.nudge import nudge


def is_listening(home: Home) -> bool:
    """Ring the poller, or else look whether supervisord is there, or about to be, to start it."""
    return nudge(home) or _accepts(socket_path(home)) or _is_starting(home)


def _accepts(path: Path) -> bool:
    """Tell whether somebody listens on a unix socket; a full queue counts, it is only hung."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def _is_starting(home: Home) -> bool:
    """Tell whether supervisord runs and does not listen yet, or a command may start it."""
    return any(holder_of(lock) for lock in (home.supervisord_lock, home.change_lock))
