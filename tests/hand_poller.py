"""A poller without workers: it takes up what is asked, and answers when the test says so."""

import asyncio
import secrets
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from answerers import take_over
from place import until

from autopoll.bridge.connect import connect
from autopoll.bridge.records import Answered, Delivery, Failed, Outcome
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.message import Answer
from autopoll.poller.asked_questions import AskedQuestions
from autopoll.poller.asker_listener import AskerListener
from autopoll.poller.partial_answers import PartialAnswers
from fifo.loop_bell import LoopBell

T = TypeVar("T")
LEASE_MS = 60_000


class HandPoller:
    """Runs in a thread of its own, with a loop of its own, until it is left or killed."""

    def __init__(self, home: Home, *, room: int = 1000) -> None:
        self.home = home
        self.room = room
        self.owner = secrets.token_hex(4)
        self.paused = False  # it reads, and takes no turns but those of the test
        self.claimed: list[Delivery] = []
        self._is_woken = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._open)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End without a word: nothing more is stored or said; may be called twice."""
        if self._thread.is_alive():
            self.run(self._close)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def run(self, use: Callable[[], T]) -> T:
        """Return what is returned in the poller's own thread."""

        async def call() -> T:
            return use()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(60)

    def stall(self, until: threading.Event) -> None:
        """Stand still until the event is set."""
        self._loop.call_soon_threadsafe(until.wait)

    def turn(self, *outcomes: Outcome) -> None:
        """Take a turn, as the poller does."""
        with self.questions.taken(self.bridge.conversations) as arrivals:
            stored, settled, claimed = self.bridge.deliveries.commit_turn(
                arrivals, outcomes, self.owner, {"main": self.room}, LEASE_MS
            )
        self.claimed += claimed
        self.questions.committed(stored)
        self.questions.settled(settled)
        self.questions.look_up(self.bridge.messages)
        self.questions.flush()

    def claims(self, count: int) -> None:
        """Wait until so many questions are claimed; an asker may have stored them by itself."""
        until(lambda: len(self.claimed) >= count, what=f"{count} claims")

    def answer(self, text: str = "yes") -> None:
        """Answer all that was claimed."""
        self.run(lambda: self.turn(*(_answered(each, text) for each in self._taken())))

    def fail(self, why: str) -> None:
        """Fail all that was claimed, to be tried again at once."""
        self.run(lambda: self.turn(*(_failed(each, why) for each in self._taken())))

    def write(self, piece: str) -> None:
        """Write on in the answers to all that was claimed."""

        def pieces() -> None:
            for each in self.claimed:
                self.questions.text(each, self.partial_answers.add(each, piece))

        self.run(pieces)

    def work(self) -> None:
        """Say that all that was claimed is worked on."""
        self.run(lambda: [self.questions.working(each) for each in self.claimed])

    def _taken(self) -> list[Delivery]:
        taken, self.claimed = self.claimed, []
        for each in taken:
            self.partial_answers.remove(each)
        return taken

    def _open(self) -> None:
        self.bridge = connect(self.home, load(self.home, {}))
        take_over(self.bridge, self.owner)
        self.partial_answers = PartialAnswers(redacting=False)
        self.questions = AskedQuestions(self.partial_answers, 1 << 20, self._wake)
        for newest in self.bridge.messages.find(limit=1):
            self.questions.newest = newest.id
        self.listener = AskerListener(self.home.poller_socket, self.questions.accept)
        self.bell = LoopBell(self.home.bell, self._wake)  # by which askers know that it is there

    def _wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon(self._turn_unless_paused)

    def _turn_unless_paused(self) -> None:
        self._is_woken = False
        if not self.paused:
            self.turn()

    def _close(self) -> None:
        self.paused = True
        self.bell.close()
        self.listener.close()
        self.questions.close()
        self.bridge.close()


def _answered(delivery: Delivery, text: str) -> Answered:
    return Answered(message_id=delivery.message_id, fence=delivery.fence, answer=Answer(text=text))


def _failed(delivery: Delivery, why: str) -> Failed:
    return Failed(message_id=delivery.message_id, fence=delivery.fence, error=why, wait_ms=0)
