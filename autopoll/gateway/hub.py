"""All askers of one process, behind one connection to the poller and one to the bridge.

To stop waiting is only to stop listening: a question is kept from the moment it is stored.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from functools import partial
from types import TracebackType
from typing import Literal, Self, TypeVar, overload

from autopoll.bridge.poller_protocol import AnswerText, QuestionNews
from autopoll.bridge.records import Arrival, QueryState, SentMessage
from autopoll.client import availability
from autopoll.client.client import Client
from autopoll.client.listening import is_listening
from autopoll.client.other_homes import is_answered_elsewhere
from autopoll.client.outcome_wait import DOWN_AFTER, NET_S, down
from autopoll.client.poller_connection import is_whole, just_sent
from autopoll.client.result import Result
from autopoll.errors import AutopollError
from autopoll.gateway.bridge_thread import BridgeThread
from autopoll.gateway.poller_thread import PollerNews, PollerThread
from autopoll.gateway.subscription import News, Subscription
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.process import role

T = TypeVar("T")

log = logging.getLogger(__name__)


class ShuttingDown(AutopollError):
    """The process ends before the answer came; the question is kept, and another one may wait."""


class Hub:
    """One per process, used as an async context manager."""

    def __init__(self, home: Home, config: Config) -> None:
        self.home = home
        self.crash: BaseException | None = None  # a bug that has ended it
        self._thread = BridgeThread(home, config)
        self._subscriptions: dict[int, set[Subscription]] = {}  # by question
        self._recent: dict[int, QueryState] = {}  # of what is not waited for yet
        self._reported: set[int] = set()  # by the poller, since the last look
        self._rung = asyncio.Event()  # to look at the store now
        self._end: ShuttingDown | None = None

    async def __aenter__(self) -> Self:
        self._link = PollerThread(self.home, self._on_news)
        self._link.running.add_done_callback(self._watching_ended)
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
        await self._link.close()
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

    async def is_served(self) -> bool:
        """Tell whether anybody is there to answer; see `is_listening`."""
        return self._link.is_open or await self.call(lambda client: is_listening(client.home))

    async def store(self, arrival: Arrival) -> SentMessage:
        """Store a question, by the poller or without it; raise why it is not stored."""
        stored = await self._link.ask(arrival)
        by_poller = not isinstance(stored, Arrival)
        if isinstance(stored, Arrival):
            left = stored
            stored = await self.call(lambda client: client.store_without_poller(left))
        if isinstance(stored, AutopollError):
            raise stored
        if stored.fresh and by_poller:  # so the link follows it already
            self._recent.setdefault(stored.id, just_sent(stored.id, arrival))
        return stored

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
        subscription = Subscription(message_id, pieces=pieces)
        self._subscriptions.setdefault(message_id, set()).add(subscription)
        try:
            recent = self._recent.pop(message_id, None)
            if recent is None or pieces:
                self._link.want(message_id, pieces=pieces)
            # Only now, so that no news is missed between the look and the waiting.
            if recent is None:
                recent = await self.call(lambda use: use.bridge.messages.query_state(message_id))
            subscription.begin(recent)
            if self._end:
                subscription.fail(self._end)
            # Closed here, as what is left to the collector wakes the loop once more.
            async with aclosing(aiter(subscription)) as all_news:
                async for news in all_news:
                    yield news
        finally:
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

    # --- what the poller says

    def _on_news(self, news: PollerNews) -> None:
        """Pass it on to its subscriptions; keep that of a question just asked for a moment."""
        match news:
            case QuestionNews(query=query):
                if is_whole(query):
                    self._tell(query)
                else:
                    self._rung.set()
            case AnswerText(id=number):
                for each in self._subscriptions.get(number, ()):
                    each.add_text(news)

    def _tell(self, query: QueryState) -> None:
        self._reported.add(query.message_id)
        subscriptions = self._subscriptions.get(query.message_id)
        if not subscriptions:
            self._recent[query.message_id] = query
        for each in subscriptions or ():
            each.update(query)

    # --- watching

    async def _watch(self) -> None:
        """Look at all questions once a second: the poller says what is new, but may be away."""
        alone, clock = 0, asyncio.get_running_loop().time
        due = clock() + NET_S
        while True:
            rung = await role.wait(self._rung, max(0.0, due - clock()))
            self._rung.clear()
            if not rung:
                due = clock() + NET_S
                self._recent.clear()
            if not self._subscriptions:
                continue
            try:
                await self._look()
                if rung:  # what lasts is what several seconds have shown
                    continue
                served = await self.is_served()
                await self._look_for_obstacles()
            except AutopollError as error:  # it may pass, so the waiting goes on
                log.warning("cannot look at the questions: %s", error)
                continue
            alone = 0 if served else alone + 1
            if alone >= DOWN_AFTER:
                for each in self._all():
                    each.fail(down([each.message_id], "Read it again then, by its id."))

    def _watching_ended(self, watching: asyncio.Task[None]) -> None:
        """End all waiting when a bug ends the watching or the link: no news would come any more."""
        if not watching.cancelled() and (error := watching.exception()):
            log.error("the watching of questions has crashed", exc_info=error)
            self.crash = error
            self.drain()

    async def _look(self) -> None:
        ids = list(self._subscriptions)
        self._reported.clear()
        states = await self.call(lambda client: client.bridge.messages.query_states(ids))
        for state in states:
            if state.message_id in self._reported and state.settled_at is None:
                continue  # what the poller has said since is newer
            for each in self._subscriptions.get(state.message_id, ()):
                each.update(state)

    async def _look_for_obstacles(self) -> None:
        """Find out what keeps the shards that are waited for from answering."""
        # In a thread of its own: supervisord is given a second to answer.
        found = {
            shard: await asyncio.to_thread(availability.obstacle, self.home, self.config, shard)
            for shard in {each.shard for each in self._all()}
        }
        for shard in [shard for shard, obstacle in found.items() if obstacle]:
            if await self.call(partial(self._is_answered_elsewhere, shard)):
                del found[shard]
        for each in self._all():
            each.meet(found.get(each.shard))

    def _is_answered_elsewhere(self, shard: str | None, client: Client) -> bool:
        return is_answered_elsewhere(self.home, self.config, client.bridge, shard)
