"""Everyone of a process who waits for an answer, behind one bell and one connection to the bridge.

A ring costs one look at all the questions that are waited for, however many wait. The bridge is
called in one thread of its own, one call at a time, so that a commit never holds up the loop.
Whoever stops waiting only stops looking: a question is kept from the moment it is stored.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Literal, Self, TypeVar, overload

from autopoll.bridge.connect import connect
from autopoll.bridge.records import QueryState
from autopoll.client import availability
from autopoll.client.client import Client, StoredQuestions
from autopoll.client.listening import is_listening
from autopoll.client.outcome_wait import DOWN_AFTER, NET_S, PIECES_S
from autopoll.client.result import Result
from autopoll.errors import AutopollError, BridgeError, ConfigError, Down
from autopoll.gateway.subscription import Follower, News
from autopoll.home.config import Config, load
from autopoll.home.home import Home
from fifo.loop_bell import LoopBell

T = TypeVar("T")

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
        self._client: Client | None = None
        self._stamp = (0, 0)  # of the settings
        self._followed: dict[int, set[Follower]] = {}
        self._rung = asyncio.Event()
        self._end: AutopollError | None = None
        self.crash: BaseException | None = None  # a bug that has ended it

    async def __aenter__(self) -> Self:
        # `down` empties var/run, and who is not supervised may wait all the same.
        self.home.waiters.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._doorbell = LoopBell(self.home.waiters / f"{self.name}.fifo", self._rung.set)
        self._looking = asyncio.create_task(self._look_on())
        self._looking.add_done_callback(self._deaf)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.drain()
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)
        self._doorbell.close()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _deaf(self, looking: asyncio.Task[None]) -> None:
        """Send everybody away when a bug ends the looking: nobody would ever be told."""
        if not looking.cancelled() and (error := looking.exception()):
            log.error("nobody looks any more", exc_info=error)
            self.crash = error
            self.drain()

    @property
    def waiting(self) -> int:
        """How many wait at the moment."""
        return sum(len(followers) for followers in self._followed.values())

    async def call(self, use: Callable[[Client], T]) -> T:
        """Return what a use-case of the home returns, or raise what it raises.

        It is carried out even when the caller is cancelled meanwhile.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: use(self._open()))

    async def ask(
        self, question: str, shard: str, *, context_file: str | None = None
    ) -> StoredQuestions:
        """Store a question to a shard as the home's own, to be followed here; see Client.ask."""
        return await self.call(
            lambda client: client.ask([question], shard, context_file=context_file, waiter=self)
        )

    @overload
    def follow(
        self, message_id: int, *, pieces: Literal[False] = False
    ) -> AsyncGenerator[QueryState | Result, None]: ...

    @overload
    def follow(self, message_id: int, *, pieces: bool) -> AsyncGenerator[News, None]: ...

    async def follow(self, message_id: int, *, pieces: bool = False) -> AsyncGenerator[News, None]:
        """Yield how a question stands, now and whenever that changes, and at last its Result.

        With `pieces`, the text of the answer too, as it is written: only on the way, and the last
        part may be left out. Close it (contextlib.aclosing) when leaving it early.
        Raises NotFound, Down when nobody is there to answer, and Draining when this process ends.
        """
        follower = Follower(self.home, message_id, pieces=pieces)
        self._followed.setdefault(message_id, set()).add(follower)
        try:
            # Only now, so that no ring is missed between the look and the waiting.
            follower.tell(
                await self.call(lambda client: client.bridge.messages.query_state(message_id))
            )
            if self._end:
                follower.fail(self._end)
            async for news in follower:
                yield news
        finally:
            follower.close()
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
        return await self.call(lambda client: client.result(message_id))

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
        """Look at what is followed whenever it rings, and once a second in any case.

        In between, whoever follows an answer that is being written looks for more of it: its pieces
        ring the bell of the asker only, who may be another process.
        """
        loop = asyncio.get_running_loop()
        looked, alone = loop.time(), 0
        while True:
            left = looked + NET_S - loop.time()
            rung = await self._ring(min(left, PIECES_S) if self._read_pieces() else left)
            if not rung and loop.time() < looked + NET_S:
                continue
            looked = loop.time()
            self._doorbell.look()
            if not self._followed:
                continue
            try:
                await self._look()
                heard = rung or await self.call(lambda client: is_listening(client.home))
                if not rung:
                    await self._look_around()
            except AutopollError as error:  # it may pass; who waits goes on waiting
                log.warning("cannot look: %s", error)
                continue
            alone = 0 if heard else alone + 1
            if alone >= DOWN_AFTER:
                self._fail_all(_down())

    async def _ring(self, seconds: float) -> bool:
        """Return when rung, or after the time; tell which."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True

    def _read_pieces(self) -> bool:
        """Have those read on whose answers are being written; tell whether there are any."""
        reading = [
            each for followers in self._followed.values() for each in followers if each.is_reading
        ]
        for follower in reading:
            follower.poke()
        return bool(reading)

    async def _look(self) -> None:
        ids = list(self._followed)
        states = await self.call(lambda client: client.bridge.messages.query_states(ids))
        for state in states:
            for follower in self._followed.get(state.message_id, ()):
                follower.tell(state)

    async def _look_around(self) -> None:
        """Tell who waits what is in the way of their answers."""
        shards = {each.shard for those in self._followed.values() for each in those}
        # In a thread of its own: supervisord is given a second to answer.
        found = {
            shard: await asyncio.to_thread(availability.obstacle, self.home, self.config, shard)
            for shard in shards
        }
        for followers in self._followed.values():
            for follower in followers:
                follower.meet(found.get(follower.shard))

    # --- in the thread of the bridge

    def _open(self) -> Client:
        if self._client:
            try:
                self._client.bridge.require_in_place()
            except BridgeError as error:
                log.warning("opening the bridge anew: %s", error)
                self._close()
        if self._client is None:
            bridge = connect(self.home, self.config)
            self._client = Client(self.home, self.config, bridge)
        self._take_up(self._client)
        return self._client

    def _take_up(self, client: Client) -> None:
        """See a changed autopoll.toml, as a command does that is started now.

        What concerns the bridge and the gateway itself is taken up by their next start.
        """
        try:
            facts = self.home.config.stat()
            stamp = (facts.st_mtime_ns, facts.st_size)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self.config = client.config = load(self.home)
        except (OSError, ConfigError) as error:
            log.warning("the settings stay as they were: %s", error)

    def _close(self) -> None:
        if self._client:
            self._client.bridge.close()
            self._client = None


def _down() -> Down:
    return Down(
        "autopoll is down: the question is kept and will be answered after `autopoll up`",
        "Read it again then, by its id.",
    )
