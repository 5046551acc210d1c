"""How a program that has only sent something wakes the poller, which looks by itself too."""

from autopoll.home.home import Home
from fifo.exceptions import FifoError


def nudge(home: Home) -> bool:
    """Ring the poller and tell whether it listens.

    What is no bell of ours is left alone, and named by the poller, which looks by itself meanwhile.
    """
    from fifo.bell import ring  # whoever asks the poller over its socket has no need of it

    try:
        return ring(home.bell)
    except (FifoError, OSError):
        return False
