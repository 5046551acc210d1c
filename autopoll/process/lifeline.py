"""The pipe from supervisord on fd 0: when it is cut, supervisord is gone.

Children outlive a killed supervisord, and its successor would start each of them a second time.
So every program watches its standard input, and drains and exits when the far end is closed.
"""

import asyncio
import os
import select
import stat
from collections.abc import Callable


class Lifeline:
    """The watch on the pipe's near end."""

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd

    def attach(self, loop: asyncio.AbstractEventLoop, on_cut: Callable[[], None]) -> None:
        """Call `on_cut` once when supervisord dies; never, when fd 0 is no pipe (run by hand)."""
        if self.is_pipe:
            loop.add_reader(self._fd, self._read, loop, on_cut)

    @property
    def is_pipe(self) -> bool:
        """Whether there is a far end that can be closed."""
        try:
            return stat.S_ISFIFO(os.fstat(self._fd).st_mode)
        except OSError:  # no descriptor at all
            return False

    @property
    def is_cut(self) -> bool:
        """Whether the far end was closed."""
        if not self.is_pipe:
            return False
        poll = select.poll()
        poll.register(self._fd, 0)  # its end only
        return bool(poll.poll(0))

    def hold_on(self, seconds: float) -> None:
        """Stay for so long, or until supervisord is gone; by hand, not at all.

        supervisord takes an exit within startsecs for a crash, whatever its code, and tries again;
        a program whose exit code is to be respected has to outlast them.
        """
        if self.is_pipe:
            poll = select.poll()
            poll.register(self._fd, 0)  # its end only, not what is typed
            poll.poll(seconds * 1000)

    def _read(self, loop: asyncio.AbstractEventLoop, on_cut: Callable[[], None]) -> None:
        # What an operator types through supervisorctl is discarded: only the end matters.
        if os.read(self._fd, 4096):
            return
        loop.remove_reader(self._fd)  # a hung-up pipe stays readable and would spin the loop
        on_cut()
