"""Takes stdin and stdout for the protocol: nothing else reads the one or writes to the other.

This module is imported before anything that may print, so it imports next to nothing.
"""

import fcntl
import os
import sys

from autopoll.errors import UsageError


def claim_stdio() -> tuple[int, int]:
    """Return descriptors to read from and to write to, which no child inherits.

    From now on reading stdin meets its end, and what is printed goes to stderr, in this process (C
    code too) and in its children. Raises UsageError when stdin or stdout is closed.
    """
    if sys.stdin is None or sys.stdout is None:
        raise UsageError(
            "stdin or stdout is closed", "It is started by an agent's program: autopoll mcp install"
        )
    read, write = _moved(0), _moved(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout.flush()
    os.dup2(2, 1)
    return read, write


def _moved(descriptor: int) -> int:
    """Return a duplicate above the standard ones."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
