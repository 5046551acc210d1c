"""Stdin and stdout as the protocol's own: nothing else reads the one or writes to the other.

This module is imported before anything that may print, so it imports next to nothing.
"""

import fcntl
import os
import sys
from typing import NamedTuple

from autopoll.errors import UsageError


class Wire(NamedTuple):
    """Descriptors of the protocol, which no child inherits."""

    read: int
    write: int


def claim() -> Wire:
    """Take stdin and stdout away from everybody: who reads meets an end, who prints prints to
    stderr, in this process (C code too) and in its children.

    Raises UsageError when one of them is closed.
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
    return Wire(read, write)


def _moved(descriptor: int) -> int:
    """Return a duplicate above the standard ones."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
