"""Everyone of a process who waits for an answer, behind one bell and one connection to the bridge.

A ring costs one look at all the questions that are waited for, however many wait. The bridge is
called in one thread of its own, one call at a time, so that a commit never holds up the loop.
Whoever stops waiting only stops looking: a question is kept from the moment it is stored.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Self, TypeVar

from autopoll.bridge.contract import QueryState
from autopoll.config import Config
from autopoll.doorbell import Doorbell
from autopoll.errors import AutopollError, Down
from autopoll.home import Home
from autopoll.service import DOWN_AFTER, NET_S, Asked, Result, Service, connect, to_result

T = TypeVar("T")
News = QueryState | Result

log = logging.getLogger(__name__)


class Draining(AutopollError):
    """The process ends before the answer came; the question is kept, and another one may wait."""


class Hub:
    """One per process, used as an async context manager.

    `name` names the bell. A process of which there is only one at a time always takes the same, so
    that the next one hears of what was asked through the one before.
    """

    def __init__(self, home: Home, config: Config, name: str | None = None) -> None:
        self.home = home
        self.config = config
        self.name = name or f"w-{os.urandom(8).hex()}"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bridge")
        self._service: Service | None = None
        self._followed: dict[int, set[_Follower]] = {}
        self._rung = asyncio.Event()
        self._end: AutopollError | None = None

    async def __aenter__(self) -> Self:
        # `down` empties var/run, and who is not supervised may wait all the same.
        self.home.waiters.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._doorbell = Doorbell(self.home.waiters / f"{self.name}.fifo", self._rung.set)
        self._looking = asyncio.create_task(self._look_on())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.drain()
        self._looking.cancel()
        with suppress(asyncio.CancelledError):
            await self._looking
        self._doorbell.close()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    @property
    def waiting(self) -> int:
        """How many wait at the moment."""
        return sum(len(followers) for followers in self._followed.values())

    async def call(self, use: Callable[[Service], T]) -> T:
        """Return what a use-case of the home's service returns, or raise what it raises.

        It is carried out even when the caller is cancelled meanwhile.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: use(self._open()))

    async def ask(self, question: str, shard: str, *, context_file: str | None = None) -> Asked:
        """Store a question to a shard as the home's own, to be followed here; see Service.ask."""
        return await self.call(
            lambda service: service.ask([question], shard, context_file=context_file, waiter=self)
        )

    async def follow(self, message_id: int) -> AsyncGenerator[News, None]:
        """Yield how a question stands, now and whenever that changes, and at last its Result.

        Raises NotFound, Down when nobody is there to answer, and Draining when this process ends.
        Close it (contextlib.aclosing) when leaving it early.
        """
        follower = _Follower()
        self._followed.setdefault(message_id, set()).add(follower)
        try:
            # Only now, so that no ring is missed between the look and the waiting.
            follower.tell(await self.call(lambda service: service.bridge.query(message_id)))
            if self._end:
                follower.fail(self._end)
            async for news in follower:
                yield news
        finally:
            self._followed[message_id].discard(follower)
            if not self._followed[message_id]:
                del self._followed[message_id]

    async def outcome(self, message_id: int, seconds: float) -> Result:
        """Return a question's outcome, pending when it takes longer; raises as `follow` does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), aclosing(self.follow(message_id)) as news:
                async for each in news:
                    if isinstance(each, Result):
                        return each
        return await self.call(lambda service: service.result(message_id))

    def drain(self) -> None:
        """Send away who waits, and whoever comes; tolerated twice."""
        self._fail_all(Draining("autopoll's gateway is ending", "The question is kept; ask again."))

    def _fail_all(self, error: AutopollError) -> None:
        if isinstance(error, Draining):
            self._end = self._end or error
        for followers in self._followed.values():
            for follower in followers:
                follower.fail(error)

    # --- looking

    async def _look_on(self) -> None:
        """Look at what is followed whenever it rings, and once a second in any case."""
        alone = 0
        while True:
            rung = True
            try:
                async with asyncio.timeout(NET_S):
                    await self._rung.wait()
            except TimeoutError:
                rung = False
                self._doorbell.look()
            self._rung.clear()
            if not self._followed:
                continue
            try:
                await self._look()
                heard = rung or await self.call(lambda service: service.is_listening())
            except AutopollError as error:  # it may pass; who waits goes on waiting
                log.warning("cannot look: %s", error)
                continue
            alone = 0 if heard else alone + 1
            if alone >= DOWN_AFTER:
                self._fail_all(
                    Down(
                        "autopoll is down: the question is kept and will be answered after "
                        "`autopoll up`"
                    )
                )

    async def _look(self) -> None:
        ids = list(self._followed)
        states = await self.call(lambda service: service.bridge.queries(ids))
        for state in states:
            for follower in self._followed.get(state.message_id, ()):
                follower.tell(state)

    # --- in the thread of the bridge

    def _open(self) -> Service:
        if self._service is None:
            bridge = connect(self.home, self.config)
            self._service = Service(self.home, self.config, bridge)
        return self._service

    def _close(self) -> None:
        if self._service:
            self._service.bridge.close()


class _Follower:
    """One who waits for one question; sees each change at most once, and skips what is old."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._state: QueryState | None = None
        self._error: AutopollError | None = None

    def tell(self, state: QueryState) -> None:
        if state != self._state:
            self._state = state
            self._news.set()

    def fail(self, error: AutopollError) -> None:
        self._error = error
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[News]:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._state:
                result = to_result(self._state)
                if result.status != "pending":
                    yield result
                    return
            if self._error:
                raise self._error
            if self._state:
                yield self._state
