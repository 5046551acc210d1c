"""How a lock of another program is waited for."""

import time

from autopoll.bridge.records import LONGEST_CALL_S

BUSY_S = LONGEST_CALL_S - 1.0  # how long a lock is waited for; a call has more to do


class BusyHandler:
    """A busy handler that begins with 0.1 ms, where SQLite's own begins with 1 ms and goes to 100.

    A commit holds the lock for about 0.1 ms, so a short sleep mostly meets it free.
    """

    def __init__(self) -> None:
        self._deadline = 0.0

    def __call__(self, tries: int) -> bool:
        """Sleep and return True to try again, False to give up."""
        now = time.monotonic()
        if tries == 0:
            self._deadline = now + BUSY_S
        if now >= self._deadline:
            return False
        time.sleep(min(0.0001 * 2 ** min(tries, 8), 0.01))
        return True
