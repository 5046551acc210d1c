"""All who wait for an answer in one process, behind one bell and one connection to the bridge.

A ring costs one look at all the questions that are waited for, however many wait. To stop waiting
is only to stop looking: a question is kept from the moment it is stored.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Literal, Self, TypeVar, overload

from autopoll.bridge.records import QueryState
from autopoll.client import availability
from autopoll.client.client import Client
from autopoll.client.listening import is_listening
from autopoll.client.outcome_wait import DOWN_AFTER, NET_S, PIECES_S, down
from autopoll.client.result import Result
from autopoll.errors import AutopollError
from autopoll.gateway.bridge_thread import BridgeThread
from autopoll.gateway.subscription import News, Subscription
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.process import role
from fifo.loop_bell import LoopBell

T = TypeVar("T")

log = logging.getLogger(__name__)


class ShuttingDown(AutopollError):
    """The process ends before the answer came; the question is kept, and another one may wait."""


class Hub:
    """One per process, used as an async context manager.

    `name` names the bell. A process of which there is only one at a time always takes the same, so
    that the next one is rung for what was asked through the one before.
    """

    def __init__(self, home: Home, config: Config, name: str | None = None) -> None:
        self.home = home
        self.name = name or f"w-{os.urandom(8).hex()}"
        self.crash: BaseException | None = None  # a bug that has ended it
        self._thread = BridgeThread(home, config)
        self._subscriptions: dict[int, set[Subscription]] = {}  # by question
        self._rung = asyncio.Event()
        self._end: ShuttingDown | None = None

    async def __aenter__(self) -> Self:
        # `down` empties var/run, and a process that is not supervised may wait all the same.
        self.home.waiters.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._bell = LoopBell(self.home.waiters / f"{self.name}.fifo", self._rung.set)
        self._watching = asyncio.create_task(self._watch())
        self._watching.add_done_callback(self._watching_ended)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.drain()
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        self._bell.close()
        await self._thread.close()

    @property
    def config(self) -> Config:
        """The settings as they are now."""
        return self._thread.config

    @property
    def waiting(self) -> int:
        """How many wait at the moment."""
        return sum(1 for _ in self._all())

    async def call(self, use: Callable[[Client], T]) -> T:
        """Return what `use` returns in the thread of the bridge; see BridgeThread.call."""
        return await self._thread.call(use)

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
        Raises NotFound, Down when nothing is there to answer, ShuttingDown when this process ends.
        """
        subscription = Subscription(self.home, message_id, pieces=pieces)
        self._subscriptions.setdefault(message_id, set()).add(subscription)
        try:
            # Only now, so that no ring is missed between the look and the waiting.
            subscription.update(
                await self.call(lambda client: client.bridge.messages.query_state(message_id))
            )
            if self._end:
                subscription.fail(self._end)
            async for news in subscription:
                yield news
        finally:
            subscription.close()
            self._subscriptions[message_id].discard(subscription)
            if not self._subscriptions[message_id]:
                del self._subscriptions[message_id]

    async def outcome(self, message_id: int, seconds: float) -> Result:
        """Return a question's outcome, pending when it takes longer; raises as `follow` does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), aclosing(self.follow(message_id)) as news:
                async for each in news:
                    if isinstance(each, Result):
                        return each
        return await self.call(lambda client: client.result(message_id))

    def drain(self) -> None:
        """End all waiting, also what begins from now on; may be called twice."""
        mend = "The question is kept; ask again."
        self._end = self._end or ShuttingDown("autopoll's gateway is ending", mend)
        for each in self._all():
            each.fail(self._end)

    def _all(self) -> Iterator[Subscription]:
        for each in self._subscriptions.values():
            yield from each

    # --- watching

    async def _watch(self) -> None:
        """Look at all questions whenever the bell rings, and once a second in any case.

        In between, answers that are being written are read on: their pieces ring the bell of the
        asker only, which may be another process.
        """
        loop = asyncio.get_running_loop()
        looked, alone = loop.time(), 0
        while True:
            left = looked + NET_S - loop.time()
            rung = await role.wait(self._rung, min(left, PIECES_S) if self._read_pieces() else left)
            if not rung and loop.time() < looked + NET_S:
                continue
            self._rung.clear()
            looked = loop.time()
            self._bell.look()
            if not self._subscriptions:
                continue
            try:
                await self._look()
                served = rung or await self.call(lambda client: is_listening(client.home))
                if not rung:
                    await self._look_for_obstacles()
            except AutopollError as error:  # it may pass, so the waiting goes on
                log.warning("cannot look at the questions: %s", error)
                continue
            alone = 0 if served else alone + 1
            if alone >= DOWN_AFTER:
                for each in self._all():
                    each.fail(down([each.message_id], "Read it again then, by its id."))

    def _watching_ended(self, watching: asyncio.Task[None]) -> None:
        """End all waiting when a bug ends the watching: no answer would be noticed any more."""
        if not watching.cancelled() and (error := watching.exception()):
            log.error("the watching of questions has crashed", exc_info=error)
            self.crash = error
            self.drain()

    def _read_pieces(self) -> bool:
        """Have answers that are being written read on; tell whether there are any."""
        reading = [each for each in self._all() if each.is_reading]
        for each in reading:
            each.wake()
        return bool(reading)

    async def _look(self) -> None:
        ids = list(self._subscriptions)
        states = await self.call(lambda client: client.bridge.messages.query_states(ids))
        for state in states:
            for each in self._subscriptions.get(state.message_id, ()):
                each.update(state)

    async def _look_for_obstacles(self) -> None:
        """Find out what keeps the shards that are waited for from answering."""
        # In a thread of its own: supervisord is given a second to answer.
        found = {
            shard: await asyncio.to_thread(availability.obstacle, self.home, self.config, shard)
            for shard in {each.shard for each in self._all()}
        }
        for each in self._all():
            each.meet(found.get(each.shard))
