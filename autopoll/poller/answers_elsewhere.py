"""Looks up the questions that are followed here, and that somebody else may have settled.

That is another home where the store is shared, else only who cancels questions: then it is done at
most once a second, and only after somebody has written. Nothing is looked up while nobody follows a
question, or only questions that are in flight here.
"""

import time
from collections.abc import Callable

from autopoll.bridge.protocols import MessageStore
from autopoll.poller.asked_questions import AskedQuestions
from autopoll.poller.in_flight import InFlight

REST_S = 1.0  # between two rounds over a store that is not shared
_AT_ONCE = 200  # questions looked up in one turn, with the answers of those that have one


class AnswersElsewhere:
    """A round over these questions, begun by `expect`, and taken on with each turn."""

    def __init__(
        self,
        questions: AskedQuestions,
        in_flight: InFlight,
        wake: Callable[[], None],
        *,
        shared: bool,
    ) -> None:
        self._questions = questions
        self._in_flight = in_flight
        self._wake = wake
        self._shared = shared
        self._expected = False
        self._missed = False  # somebody has written since the last round
        self._next = 0.0  # on the monotonic clock
        self._left: list[int] = []  # of this round

    def expect(self) -> None:
        """Begin a round as soon as it is due: somebody may have settled something."""
        self._missed = True
        self.check()

    def check(self) -> None:
        """Begin a round that is due; to be called once a second."""
        if self._shared or (self._missed and time.monotonic() >= self._next):
            self._expected, self._missed = True, False
            self._next = time.monotonic() + REST_S

    @property
    def is_expected(self) -> bool:
        """Whether a round begins with the next look-up."""
        return self._expected and not self._left

    def look_up(self, messages: MessageStore) -> None:
        """Tell followers what has become of their questions elsewhere; raises BridgeError."""
        if self._expected and not self._left:
            self._expected = False
            here = {message_id for message_id, _ in self._in_flight.leases()}
            self._left = [each for each in self._questions.followed if each not in here]
        if not self._left:
            return
        ids, self._left = self._left[:_AT_ONCE], self._left[_AT_ONCE:]
        for query in messages.query_states(ids):
            self._questions.seen(query)
        if self._left or self._expected:
            self._wake()
