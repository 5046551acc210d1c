"""A home is brought up or down, or given new settings, by one command at a time.

The others wait for their turn: then the end is what the commands make of it one after another, in
some order. The kernel frees the turn of whoever dies.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from autopoll.errors import AlreadyRunning, TimedOut
from autopoll.home.config import STOP_WAIT_S
from autopoll.home.home import Home
from autopoll.home.lock import hold_in_turn
from autopoll.ops.phase import Phase, look

LIMIT_S = 300.0  # longer than any command has the turn
STEP_S = 0.05

Report = Callable[[str], None]


@contextmanager
def turn(home: Home, command: str, report: Report) -> Iterator[None]:
    """Be for the block the one that changes the home; `command` is what others are told of it.

    Raises TimedOut, naming the command that has the turn, when it never comes.
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


def settle(home: Home, report: Report) -> Phase:
    """Wait while supervisord begins or ends by itself, as after `supervisorctl shutdown`; return
    what it has come to. Called with the turn."""
    end = time.monotonic() + 3 * STOP_WAIT_S
    told = ""
    while (found := look(home))[0] in (Phase.STARTING, Phase.STOPPING):
        if time.monotonic() > end:
            break
        if found[1] != told:
            report(f"waiting: {found[1]}")
            told = found[1]
        time.sleep(STEP_S)
    return found[0]
