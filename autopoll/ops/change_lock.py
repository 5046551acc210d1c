"""The lock of a home that is held by the one command that brings it up or down, or changes it.

The others wait for it, so that the result is that of the commands one after another, in some order.
The kernel frees the lock of a process that dies.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from autopoll.errors import AlreadyRunning, TimedOut
from autopoll.home.home import Home
from autopoll.home.lock import hold_in_turn

UP, DOWN, RESTART = "autopoll up", "autopoll down", "autopoll restart"  # what the holder runs
LIMIT_S = 300.0  # longer than any command holds the lock

Report = Callable[[str], None]


@contextmanager
def changing(home: Home, command: str, report: Report) -> Iterator[None]:
    """Hold the change lock for the block; `command` is shown to those that wait.

    Raises TimedOut, naming the command that holds it, when it is not freed in time.
    """
    home.make_private()
    with ExitStack() as stack:
        lock = hold_in_turn(home.change_lock, "a change of this home", LIMIT_S, report, command)
        try:
            stack.enter_context(lock)
        except AlreadyRunning as error:
            raise TimedOut(
                f"waited for {LIMIT_S:.0f} s: {error.what}",
                "If that process hangs, end it, and try again.",
            ) from error
        yield
