"""Looks up the questions that are followed here, and that another home may have answered.

Only where the store is shared: else nobody but this poller settles anything. Nothing is looked up
while nobody follows a question, or only questions that are in flight here.
"""

from collections.abc import Callable

from autopoll.bridge.protocols import MessageStore
from autopoll.poller.asked_questions import AskedQuestions
from autopoll.poller.in_flight import InFlight

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
        self._left: list[int] = []  # of this round

    def expect(self) -> None:
        """Begin a round in the next turn: somebody may have settled something."""
        self._expected = self._shared

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
