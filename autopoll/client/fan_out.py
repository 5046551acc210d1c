"""One question to several shards at once: each outcome as it comes, a reason where none comes.

Whoever compares answers does not want to wait for the one shard that cannot answer. So a shard that
is paused for longer than the asker waits, or has something in its way for long, is given up with
its reason. Its question is kept all the same, and is answered when the shard works again.
"""

import time
from collections.abc import Callable, Iterator

import msgspec

from autopoll.bridge.records import QueryState
from autopoll.client import availability
from autopoll.client.client import Client
from autopoll.client.other_homes import is_answered_elsewhere
from autopoll.client.outcome_wait import IS_DOWN, NET_S, DownDetector, latest_state
from autopoll.client.poller_connection import PollerConnection
from autopoll.client.result import Result, to_result
from autopoll.errors import AutopollError, Exit, UsageError
from autopoll.process import shard_pause

LOST_S = 5.0  # with something in its way a shard is given up; a restart takes less


class ShardOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of asking one shard: its outcome, or why there is none, and what to do."""

    shard: str
    result: Result | None = None  # None when the question could not even be stored
    reason: str = ""  # of an outcome that is missing or an error
    mend: str = ""
    code: Exit = Exit.OK


class FanOut:
    """The shards that are asked one question."""

    def __init__(self, client: Client, connection: PollerConnection) -> None:
        self._client = client
        self._connection = connection
        self._pending: dict[int, str] = {}  # question -> shard
        self._refused: list[ShardOutcome] = []
        self._able_at: dict[str, float] = {}  # shard -> when nothing was in its way

    def ask(self, question: str, shard: str, context_file: str | None) -> list[int]:
        """Store the question for one shard and return its id in a list.

        Raises UsageError for what is no question; what else keeps it from being stored concerns
        this shard alone, and is its outcome.
        """
        try:
            asked = self._client.ask(
                [question], shard, context_file=context_file, connection=self._connection
            )
        except UsageError:
            raise
        except AutopollError as error:
            refused = ShardOutcome(
                shard=shard, reason=error.what, mend=error.mend, code=error.exit_code
            )
            self._refused.append(refused)
            return []
        self._pending[asked.ids[0]] = shard
        return asked.ids

    def outcomes(
        self, timeout: float, on_news: Callable[[QueryState], None]
    ) -> Iterator[ShardOutcome]:
        """Yield one outcome for each shard asked, in the order in which they come.

        `on_news` receives the state of each pending question, whenever there was a look. Raises
        BridgeError when the store was replaced.
        """
        yield from self._refused
        began = time.monotonic()
        self._able_at = dict.fromkeys(self._pending.values(), began)
        detector = DownDetector(self._client.home, self._client.bridge, self._connection)
        is_down = False
        self._connection.follow(self._pending)
        news = True
        while self._pending:
            for message_id, shard in list(self._pending.items()):
                state = latest_state(message_id, self._connection, self._client.bridge, news)
                state = msgspec.structs.replace(state, shard=shard)  # not known while unenrolled
                left = began + timeout - time.monotonic()
                outcome = self._settled(state, shard) or self._given_up(state, shard, left, is_down)
                if outcome:
                    del self._pending[message_id]
                    yield outcome
                else:
                    on_news(state)
            if self._pending:
                wait = min(NET_S, max(0.0, began + timeout - time.monotonic()))
                news = self._connection.wait(wait)
                is_down = detector.look(news)

    def _settled(self, state: QueryState, shard: str) -> ShardOutcome | None:
        result = to_result(state)
        if result.status == "pending":
            return None
        if result.status == "error":
            return ShardOutcome(
                shard=shard, result=result, reason=result.answer or "error", code=Exit.FAILED
            )
        return ShardOutcome(shard=shard, result=result)

    def _given_up(
        self, state: QueryState, shard: str, left: float, is_down: bool
    ) -> ShardOutcome | None:
        """Return the outcome of a shard that is not worth waiting for any longer."""
        paused = shard_pause.current(self._client.home, shard)
        if paused and self._is_answered_elsewhere(shard):
            paused = None
        if paused and paused.left_s > left:
            return self._missing(state, shard, f"paused: {paused.words}", Exit.FAILED)
        if is_down:
            return self._missing(state, shard, IS_DOWN, Exit.DOWN)
        why = None if paused else self._hindrance(shard)
        if why and time.monotonic() - self._able_at[shard] > LOST_S:
            return self._missing(state, shard, why, Exit.DOWN)
        if left <= 0:
            return self._missing(state, shard, why or "no answer in time", Exit.TIMED_OUT)
        return None

    def _hindrance(self, shard: str) -> str:
        """Return what keeps a shard from answering; empty, and noted, when nothing does."""
        client = self._client
        found = availability.obstacle(client.home, client.config, shard)
        if found and not self._is_answered_elsewhere(shard):
            return found.what
        self._able_at[shard] = time.monotonic()
        return ""

    def _is_answered_elsewhere(self, shard: str) -> bool:
        client = self._client
        return is_answered_elsewhere(client.home, client.config, client.bridge, shard)

    def _missing(self, state: QueryState, shard: str, reason: str, code: Exit) -> ShardOutcome:
        return ShardOutcome(
            shard=shard,
            result=to_result(state),
            reason=reason,
            mend=f"The question is kept; fetch it with: autopoll answer {state.message_id}",
            code=code,
        )
