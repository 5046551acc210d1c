"""Waiting for the outcomes of questions: the poller says them, and the store is looked at when not.

A question is safe as soon as it is stored. Everything here is only looking, so it may be
interrupted at any moment, and `answer ID` takes up the wait again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from autopoll.bridge.records import QueryState
from autopoll.client.answer_pieces import OnPiece
from autopoll.client.listening import is_listening
from autopoll.client.poller_connection import PollerConnection
from autopoll.client.result import Result, to_result
from autopoll.errors import Down, TimedOut
from autopoll.home.config import Config
from autopoll.home.home import Home

if TYPE_CHECKING:
    from autopoll.bridge.protocols import Bridge
    from autopoll.client.availability import Obstacle

NET_S = 1.0  # between two looks at the store, without news of the poller
IS_DOWN = "autopoll is down"
DOWN_AFTER = 3  # nets in a row with nobody listening; a poller's restart takes less

# How a question stands, and what is in the way of its answer.
OnNews = Callable[[QueryState, "Obstacle | None"], None]


class DownDetector:
    """Finds out, over the rounds of one wait, that nobody is there to answer."""

    def __init__(self, home: Home, bridge: "Bridge", connection: PollerConnection) -> None:
        self._home = home
        self._bridge = bridge
        self._connection = connection
        self._alone = 0  # rounds in a row with nobody listening

    def look(self, news: bool) -> bool:
        """Return, after each round, whether autopoll is down.

        Raises BridgeError when the store was replaced: nobody who opens it sees the question.
        """
        if news or self._connection.is_open:  # the poller itself sees that its store is in place
            self._alone = 0
            return False
        self._bridge.require_in_place()
        self._alone = 0 if is_listening(self._home) else self._alone + 1
        return self._alone >= DOWN_AFTER


class OutcomeWait:
    """One wait, over one connection."""

    def __init__(
        self,
        home: Home,
        config: Config,
        bridge: "Bridge",
        connection: PollerConnection,
        timeout: float | None,
    ) -> None:
        self._home = home
        self._config = config
        self._bridge = bridge
        self._connection = connection
        self._timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout
        self._pause: str | None = None  # of the shard that did not answer in time

    def outcomes(
        self, ids: Sequence[int], on_news: OnNews | None = None, on_piece: OnPiece | None = None
    ) -> Iterator[Result]:
        """Yield the outcomes in the order of ids, each as soon as those before it are settled.

        `on_piece` is given the text of the answer that is next in this order as it is written. The
        last part may be left out, and what counts is the outcome.
        Raises TimedOut, or Down when nobody is there to answer, or will be without somebody's help;
        the questions stay stored.
        """
        self._connection.follow(ids)
        for number, message_id in enumerate(ids):
            result = self._first(ids[number:], on_news, on_piece)
            self._connection.forget(message_id)
            if result is None:
                assert self._timeout is not None
                raise timed_out(ids[number:], self._timeout, self._pause)
            yield result

    def _first(
        self, ids: Sequence[int], on_news: OnNews | None, on_piece: OnPiece | None
    ) -> Result | None:
        """Return the outcome of the first of ids, None at the end of the time; raise Down."""
        stuck, news, obstacle = 0, True, None
        detector = DownDetector(self._home, self._bridge, self._connection)
        while True:
            if on_piece and (piece := self._connection.take_pieces(ids[0])):
                on_piece(piece)
            state = latest_state(ids[0], self._connection, self._bridge, news)
            result = to_result(state)
            if result.status != "pending":
                return result
            if on_news:
                on_news(state, obstacle)
            left = NET_S if self._end is None else min(NET_S, self._end - time.monotonic())
            if left <= 0:
                self._pause = self._why_paused(state)
                return None
            news = self._connection.wait(left)
            if detector.look(news):
                raise down(ids)
            obstacle = None if news else self._find_obstacle(state.shard)
            stuck = stuck + 1 if obstacle and obstacle.lasting else 0
            if obstacle and stuck >= DOWN_AFTER:
                raise obstacle.blocked(_these(ids), f"read the answer with: {_fetch(ids)}")

    def _why_paused(self, state: QueryState) -> str | None:
        from autopoll.process import shard_pause

        if state.shard is None or state.state == "leased":
            return None
        found = shard_pause.current(self._home, state.shard)
        return f"shard {state.shard} is paused, {found.words}" if found else None

    def _find_obstacle(self, shard: str | None) -> "Obstacle | None":
        # Here, as they load more than an asker mostly needs.
        from autopoll.client import availability
        from autopoll.client.other_homes import is_answered_elsewhere

        found = availability.obstacle(self._home, self._config, shard)
        if found and is_answered_elsewhere(self._home, self._config, self._bridge, shard):
            return None
        return found


def latest_state(
    message_id: int, connection: PollerConnection, bridge: "Bridge", news: bool
) -> QueryState:
    """Return how a question stands: as the poller says while it is there, else as stored."""
    state = connection.state(message_id) if news or connection.is_open else None
    return state or bridge.messages.query_state(message_id)


def timed_out(ids: Sequence[int], seconds: float, why: str | None = None) -> TimedOut:
    """Return the error of questions whose answers did not come in time; they stay stored."""
    what = f"no answer to {_these(ids)} within {seconds:g} s" + (f": {why}" if why else "")
    return TimedOut(what, f"It is kept; fetch it with: {_fetch(ids)}")


def down(ids: Sequence[int], mend: str = "") -> Down:
    """Return the error of questions that no process is there to answer; they stay stored."""
    return Down(
        f"{IS_DOWN}: {_these(ids)} is kept and will be answered after `autopoll up`",
        mend or f"Then read it with: {_fetch(ids)}",
    )


def _these(ids: Sequence[int]) -> str:
    if len(ids) == 1:
        return f"question {ids[0]}"
    return f"each of {len(ids)} questions ({ids[0]} to {ids[-1]})"


def _fetch(ids: Sequence[int]) -> str:
    return f"autopoll answer {ids[0]}" + (f" … {ids[-1]}" if len(ids) > 1 else "")
