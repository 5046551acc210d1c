"""The one link of a process to the poller, in a thread of its own, for an asyncio loop."""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import msgspec

from autopoll.bridge.poller_protocol import AnswerText, QuestionNews
from autopoll.bridge.records import Arrival, Stored
from autopoll.client.poller_link import PollerLink
from autopoll.home.home import Home

_WAIT_S = 3600.0  # until something is wanted

PollerNews = QuestionNews | AnswerText
_Asked = tuple[Arrival, "asyncio.Future[Stored | Arrival]"]


class PollerThread(PollerLink):
    """Made and closed on the loop, on which `tell` is called with what the poller says.

    What is asked while others are being stored is sent together, after them.
    """

    def __init__(self, home: Home, tell: Callable[[PollerNews], None]) -> None:
        super().__init__(home)
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._asked: deque[_Asked] = deque()
        self._serving: list[_Asked] = []
        self._wanted: deque[tuple[int, bool]] = deque()
        self._ending = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.also = self._bell
        self.running = asyncio.create_task(asyncio.to_thread(self._run))
        self.running.add_done_callback(self._leave_all)

    async def ask(self, arrival: Arrival) -> Stored | Arrival:
        """Have a question stored; return itself where it is to be stored without the poller."""
        result: asyncio.Future[Stored | Arrival] = self._loop.create_future()
        if self._ending:
            return arrival
        self._asked.append((arrival, result))
        self._wake()
        return await result

    def want(self, message_id: int, *, pieces: bool) -> None:
        """Receive how a question stands, now and as that changes."""
        self._wanted.append((message_id, pieces))
        self._wake()

    async def close(self) -> None:
        """End the thread, after what it has begun; what it has not is stored without the poller."""
        self._ending = True
        os.eventfd_write(self._bell, 1)
        await asyncio.gather(self.running, return_exceptions=True)
        os.close(self._bell)

    def _leave_all(self, _: asyncio.Task[None]) -> None:
        """Leave to the store what the thread has not done at its end, or when a bug has ended it.

        What it had begun to send may be stored already.
        """
        self._ending = True
        for arrival, result in self._serving:
            _settle(result, msgspec.structs.replace(arrival, repeated=True))
        for arrival, result in self._asked:
            _settle(result, arrival)

    def _wake(self) -> None:
        if not self._ending:
            os.eventfd_write(self._bell, 1)

    # --- in the thread

    def on_stored(self, message_id: int, arrival: Arrival) -> None:
        """Do nothing: the caller of `ask` has it."""

    def on_news(self, news: PollerNews) -> None:
        """Have the loop tell it."""
        self._loop.call_soon_threadsafe(self._tell, news)

    def _run(self) -> None:
        with self:
            while not self._ending:
                self.wait(_WAIT_S)
                with suppress(BlockingIOError):
                    os.eventfd_read(self._bell)
                self._serve()

    def _serve(self) -> None:
        self._serving = asked = [self._asked.popleft() for _ in range(len(self._asked))]
        try:
            stored = self.store([arrival for arrival, _ in asked]) if asked else []
        except BaseException:  # a bug, which ends the thread
            self._give_up()
            self._outlast()
            raise
        for (_, result), one in zip(asked, stored, strict=True):
            self._loop.call_soon_threadsafe(_settle, result, one)
        for _ in range(len(self._wanted)):
            message_id, pieces = self._wanted.popleft()
            self.follow([message_id], pieces=pieces)


def _settle(result: "asyncio.Future[Stored | Arrival]", stored: Stored | Arrival) -> None:
    if not result.done():  # the caller may be gone
        result.set_result(stored)
