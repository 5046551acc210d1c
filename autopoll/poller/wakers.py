"""What wakes the poller: its bell, a foreign write into the bridge, and whatever its parts note."""

import asyncio
from collections.abc import Callable

from autopoll.bridge.protocols import Bridge
from autopoll.home.home import Home
from autopoll.poller.foreign_writes import ForeignWrites
from fifo.loop_bell import LoopBell


class Wakers:
    """The wake-ups of one loop; any number of them before a turn lead to one turn."""

    def __init__(
        self,
        home: Home,
        bridge: Bridge,
        on_bell: Callable[[], None],
        on_foreign_write: Callable[[], None],
    ) -> None:
        self._woken = asyncio.Event()
        self._bell = LoopBell(home.bell, on_bell)
        self._foreign_writes = ForeignWrites(bridge, on_foreign_write)

    def wake(self) -> None:
        """Have the loop take a turn, after everything that can be read now was read."""
        self._woken.set()

    def wake_in(self, seconds: float) -> None:
        """Have the loop take a turn after so many seconds."""
        asyncio.get_running_loop().call_later(seconds, self.wake)

    async def wait(self) -> None:
        """Return when the loop was woken since the last wait."""
        if self._woken.is_set():
            await asyncio.sleep(0)  # a turn that wakes the next one must not keep the pipes waiting
        await self._woken.wait()
        self._woken.clear()

    def committed(self, *, news: bool) -> None:
        """Have a commit of a turn wake nobody here; `news` is for other homes."""
        self._foreign_writes.committed(news=news)

    def check(self) -> None:
        """Put back what somebody took away; cheap enough for once a second."""
        self._bell.look()
        self._foreign_writes.check()

    @property
    def trouble(self) -> str:
        """What is missing, so that some questions are noticed only by the check once a second."""
        return self._bell.trouble or self._foreign_writes.trouble

    def close(self) -> None:
        """Listen no more."""
        self._foreign_writes.close()
        self._bell.close()
