"""The news of one question, of many that are watched together."""

import asyncio
from collections.abc import AsyncGenerator

from autopoll.bridge.poller_protocol import AnswerText
from autopoll.bridge.records import QueryState
from autopoll.client.answer_pieces import AnswerPiece, AnswerPieces
from autopoll.client.availability import Obstacle
from autopoll.client.outcome_wait import DOWN_AFTER
from autopoll.client.poller_connection import working
from autopoll.client.result import Result, to_result
from autopoll.errors import AutopollError

News = QueryState | AnswerPiece | Result


class Subscription:
    """Iterates over the news of one question: each change at most once, and the newest only."""

    def __init__(self, message_id: int, *, pieces: bool) -> None:
        self.message_id = message_id
        self.wants_pieces = pieces
        self._news = asyncio.Event()
        self._state: QueryState | None = None
        self._error: AutopollError | None = None
        self._stuck = 0  # looks in a row that found a lasting obstacle
        self._pieces = AnswerPieces()

    def begin(self, state: QueryState) -> None:
        """Note how the question stood when it was looked at; what was said since is newer."""
        if self._state is None:
            self.update(state)

    def update(self, state: QueryState) -> None:
        """Note how the question stands; an outcome stays."""
        if state != self._state and not (self._state and self._state.answer):
            self._state = state
            self._news.set()

    @property
    def shard(self) -> str | None:
        """The shard that answers, as far as it is known."""
        return self._state.shard if self._state else None

    def meet(self, obstacle: Obstacle | None) -> None:
        """Note what is in the way of the answer; fail when it lasts."""
        self._stuck = self._stuck + 1 if obstacle and obstacle.lasting else 0
        if obstacle and self._stuck >= DOWN_AFTER:
            fetch = "read the answer by its id"
            self.fail(obstacle.blocked(f"question {self.message_id}", fetch))

    def add_text(self, text: AnswerText) -> None:
        """Note the next part of the answer, where it is wanted."""
        if not self.wants_pieces:
            return
        self._pieces.add(text)
        if text.text and self._state and self._state.state != "leased":
            self._state = working(self._state, text.attempt)
        self._news.set()

    def fail(self, error: AutopollError) -> None:
        """Raise this error from the iteration, unless the answer is there."""
        self._error = error
        self._news.set()

    async def __aiter__(self) -> AsyncGenerator[News, None]:
        seen: QueryState | None = None
        while True:
            await self._news.wait()
            self._news.clear()
            state = self._state
            if state and (result := to_result(state)).status != "pending":
                yield result
                return
            if self._error:
                raise self._error
            if state and state is not seen:
                seen = state
                yield state
            # Only now that they are wanted, so that a slow reader holds up nothing.
            if state and (piece := self._pieces.take(self.message_id)):
                yield piece
