"""A link to the poller that keeps what is said of each question until its asker looks."""

import time
from collections.abc import Iterable, Sequence

import msgspec

from autopoll.bridge.poller_protocol import AnswerText, QuestionNews
from autopoll.bridge.records import Arrival, QueryState, Stored
from autopoll.client.answer_pieces import AnswerPiece, AnswerPieces
from autopoll.client.poller_link import PATIENCE_S, PollerLink
from autopoll.home.home import Home


class PollerConnection(PollerLink):
    """The link of an asker that waits in a thread of its own."""

    def __init__(self, home: Home, *, follow: bool = True, pieces: bool = False) -> None:
        super().__init__(home, follow=follow, pieces=pieces)
        self._states: dict[int, QueryState] = {}
        self._texts = AnswerPieces()
        self._shard: str | None = None  # that is to answer what is being stored

    def store(
        self, arrivals: Sequence[Arrival], token: str | None = None, *, shard: str | None = None
    ) -> list[Stored | Arrival]:
        """Have questions stored; `shard` is to answer, which the poller says only with news."""
        self._shard = shard
        return super().store(arrivals, token)

    def follow(self, ids: Iterable[int], *, pieces: bool = False) -> None:
        """Receive how these questions go on, but for those that are known to be settled."""
        super().follow([each for each in ids if not self._is_settled(each)], pieces=pieces)

    def state(self, message_id: int) -> QueryState | None:
        """Return what the poller said last of a question; None when that is not all of it."""
        state = self._states.get(message_id)
        return state if state and is_whole(state) else None

    def look_up(self, ids: Sequence[int]) -> None:
        """Have the poller say how questions stand, if it is there and does so soon."""
        end = time.monotonic() + PATIENCE_S
        self.follow(ids)
        while self.opens_before(end) and any(
            each in self._followed and each not in self._states for each in ids
        ):
            self.wait(end - time.monotonic())

    def take_pieces(self, message_id: int) -> AnswerPiece | None:
        """Return what has come of an answer that is being written, since the last call."""
        return self._texts.take(message_id)

    def forget(self, message_id: int) -> None:
        """Forget a question whose outcome is known."""
        self._followed.pop(message_id, None)
        self._states.pop(message_id, None)
        self._texts.drop(message_id)

    def on_stored(self, message_id: int, arrival: Arrival) -> None:
        """Note how a question stands that was stored just now."""
        self._texts.begin(message_id)
        self._states.setdefault(message_id, just_sent(message_id, arrival, self._shard))

    def on_news(self, news: QuestionNews | AnswerText) -> None:
        """Note how a question stands, or what there is of its answer."""
        match news:
            case QuestionNews(query=query):
                self._states[query.message_id] = query
            case AnswerText(id=message_id, attempt=attempt):
                self._texts.add(news)
                if news.text and (state := self._states.get(message_id)):
                    self._states[message_id] = working(state, attempt)

    def _is_settled(self, message_id: int) -> bool:
        state = self._states.get(message_id)
        return state is not None and state.settled_at is not None


def is_whole(query: QueryState) -> bool:
    """Tell whether a state has its answer, where it is settled; a long one is in the store."""
    return query.answer is not None or query.settled_at is None


def working(state: QueryState, attempt: int) -> QueryState:
    """Return how a question stands of whose answer something is written."""
    return msgspec.structs.replace(state, state="leased", attempts=attempt)


def just_sent(message_id: int, arrival: Arrival, shard: str | None = None) -> QueryState:
    """Return how a question stands that was stored just now, as far as its asker knows."""
    return QueryState(
        message_id=message_id,
        conversation=arrival.conversation,
        session="b" if arrival.session == "a" else "a",
        state="sent",
        shard=shard,
        attempts=0,
        last_error=None,
        answer=None,
        enrolled_at=None,
        settled_at=None,
    )
