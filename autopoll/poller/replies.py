"""What workers send back, and what follows from it for the question and its shard."""

from collections.abc import Callable

from autopoll.poller import outcomes
from autopoll.poller.attempt import Attempt
from autopoll.poller.daily_budgets import DailyBudgets
from autopoll.poller.in_flight import InFlight
from autopoll.poller.pauses import Pauses
from fifo.events import (
    ClientEvent,
    Disconnected,
    FailureReceived,
    ProgressReceived,
    ReplyReceived,
)


class Replies:
    """The reader of all links."""

    def __init__(
        self,
        in_flight: InFlight,
        pauses: Pauses,
        budgets: DailyBudgets,
        wake: Callable[[], None],
    ) -> None:
        self._in_flight = in_flight
        self._pauses = pauses
        self._budgets = budgets
        self._wake = wake

    def receive(self, worker: str, event: ClientEvent) -> None:
        """Take an event of the link to a worker."""
        match event:
            case ProgressReceived(request_id=request_id, payload=payload):
                self._in_flight.progress(request_id, payload)
            case ReplyReceived(request_id=request_id, payload=payload):
                if attempt := self._in_flight.remove(request_id):
                    self._on_reply(attempt, payload)
            case FailureReceived(request_id=request_id, payload=payload):
                if attempt := self._in_flight.remove(request_id):
                    self._on_failure(attempt, payload)
            case Disconnected(reason=reason, in_flight=request_ids):
                self._in_flight.worker_died(worker, reason, request_ids)
            case _:
                self._wake()  # it may have credits now

    def _on_reply(self, attempt: Attempt, payload: bytes) -> None:
        """Take an answer, by which a shard on trial shows that it works again."""
        shard = attempt.delivery.shard
        outcome = outcomes.of_reply(attempt.delivery, payload)
        self._budgets.charge(shard, outcome.usage)
        self._in_flight.conclude(attempt, outcome)
        if not attempt.canary:  # which asks the instance, and not the service behind it
            self._pauses.answered(shard)

    def _on_failure(self, attempt: Attempt, payload: bytes) -> None:
        """Take a failure; pause the shard when the service behind it answers nobody."""
        shard = attempt.delivery.shard
        failure = outcomes.read_failure(payload)
        if failure.kind == "unavailable":
            self._pauses.refused(shard, failure)
        self._budgets.charge(shard, failure.usage)
        self._in_flight.conclude(attempt, outcomes.of_failure(attempt.delivery, failure))
