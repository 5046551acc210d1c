"""The questions in flight: sent to a worker, and neither answered nor given back yet.

Each has a deadline, which its first sign of work starts. Past it the request is cancelled; a worker
that keeps it all the same loses its link. Each is held under a lease, which is renewed meanwhile.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from math import inf

import msgspec

from autopoll.bridge.delivery_protocol import DeliveryStore
from autopoll.bridge.records import Delivery, Outcome, Settled
from autopoll.errors import BadQuery
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.message import Answer, Query, read_query
from autopoll.poller import outcomes
from autopoll.poller.asked_questions import AskedQuestions
from autopoll.poller.attempt import Attempt
from autopoll.poller.partial_answers import PartialAnswer, PartialAnswers
from autopoll.poller.shared_timer import SharedTimer
from autopoll.poller.workers import Workers
from autopoll.request import Progress, Request, write
from fifo.exceptions import NoCredit, NotConnected, TooLarge

NO_FENCE = 0  # of no claim: the first has 1

_read_progress = msgspec.msgpack.Decoder(Progress).decode

log = logging.getLogger(__name__)


class HandedAttempts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is in flight, as one program of the process hands it to the next."""

    last_request: int
    attempts: dict[int, Attempt]  # by the id of their request
    partial_answers: list[tuple[int, int, PartialAnswer]]


class InFlight:
    """The attempts in flight by the id of their request.

    Each ends once: with a call of `on_outcome`, or by `remove`, whose caller has the outcome and
    passes it to `conclude`.
    """

    def __init__(
        self,
        home: Home,
        config: Config,
        workers: Workers,
        questions: AskedQuestions,
        partial_answers: PartialAnswers,
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        self._folder = str(home.root)
        self._workers = workers
        self._questions = questions
        self._partial_answers = partial_answers
        self._on_outcome = on_outcome
        self._attempts: dict[int, Attempt] = {}
        self._last_request = 0
        self._timer = SharedTimer(self._check_deadlines)
        self._clock = asyncio.get_running_loop().time
        self.update(config)

    def update(self, config: Config) -> None:
        """Send with other settings from now on; what is in flight keeps its deadline."""
        self._config = config
        shared = config.bridge.url.is_server
        self._place = (os.uname().nodename, self._folder) if shared else (None, None)
        self.lease_ms = config.delivery.visibility_timeout.ms

    def __len__(self) -> int:
        return len(self._attempts)

    def busy_workers(self) -> set[str]:
        """Return the workers that have not answered everything."""
        return {attempt.worker for attempt in self._attempts.values()}

    def is_answering(self, shard: str) -> bool:
        """Return whether a question is in flight to the shard."""
        return any(attempt.delivery.shard == shard for attempt in self._attempts.values())

    # --- from the send to the end

    def send(self, delivery: Delivery, claimed_at: float) -> None:
        """Send a question to a worker of its shard; answer at once what is no question.

        It was claimed at a moment of the loop's clock.
        """
        try:
            query = self._read(delivery)
        except BadQuery as error:
            self._on_outcome(outcomes.answered(delivery, Answer(text=str(error), error=True)))
            return
        limit = self._config.shards[delivery.shard].request_timeout
        request = Request(
            delivery=delivery.message_id,
            fence=delivery.fence,
            attempt=delivery.attempt,
            timeout_ms=limit.ms,
            conversation=delivery.conversation,
            question=query.question,
            context_file=query.context_file,
            canary=query.canary,
        )
        worker = self._workers.with_most_credits(delivery.shard)
        self._last_request += 1
        pid = self._workers.pid(worker)
        attempt = Attempt(
            delivery, worker, pid, claimed_at, self._clock(), float(limit), query.canary
        )
        self._attempts[self._last_request] = attempt
        try:
            self._workers.send(worker, self._last_request, write(request))
        except (NoCredit, NotConnected) as error:  # as when the pipe is full of earlier requests
            log.info("%s takes question %d later: %s", worker, delivery.message_id, error.what)
            self.remove(self._last_request)
            self._on_outcome(outcomes.released(delivery))
        except TooLarge as error:
            self.remove(self._last_request)
            self._on_outcome(outcomes.answered(delivery, Answer(text=error.what, error=True)))

    def _read(self, delivery: Delivery) -> Query:
        if delivery.text is None:
            limit = self._config.delivery.max_message
            raise BadQuery(f"the message is larger than {limit} bytes", "Send it in parts.")
        return read_query(delivery.text, delivery.metadata)

    def progress(self, request_id: int, payload: bytes) -> None:
        """Start the clock at the first sign of work, keep a piece, and let the asker know."""
        attempt = self._attempts.get(request_id)
        if attempt is None:
            return
        if attempt.begun_at is None:
            attempt.begun_at = self._clock()
            self._timer.fire_by(attempt.due)
        try:
            progress = _read_progress(payload)
        except msgspec.MsgspecError as error:
            log.warning("%s sent a progress that cannot be read: %s", attempt.worker, error)
            return  # a sign of life all the same
        piece = progress.piece
        if piece and attempt.piece_at is None:
            attempt.piece_at = self._clock()
        if piece and (more := self._partial_answers.add(attempt.delivery, piece)):
            self._questions.text(attempt.delivery, more)

    def remove(self, request_id: int) -> Attempt | None:
        """Return an attempt that has come to its end; None when it was given up before."""
        attempt = self._attempts.pop(request_id, None)
        if attempt:
            self._partial_answers.remove(attempt.delivery)
        return attempt

    def worker_died(self, worker: str, reason: str, request_ids: Iterable[int]) -> None:
        """Fail what a worker had begun, and give back the rest."""
        for request_id in request_ids:
            if attempt := self.remove(request_id):
                begun = attempt.begun_at is not None
                died = f"{worker} {reason}"
                self.conclude(attempt, outcomes.worker_died(attempt.delivery, died, begun=begun))

    def release_all(self) -> None:
        """Give back everything, without a failed attempt."""
        for request_id in list(self._attempts):
            if attempt := self.remove(request_id):
                self.conclude(attempt, outcomes.released(attempt.delivery))

    def conclude(self, attempt: Attempt, outcome: Outcome) -> None:
        """Pass on what came of an attempt.

        After its lease was lost the store may have given the number to another question, and the
        fence to us. Then it is settled under no lease, which only charges what it has cost.
        """
        fence = NO_FENCE if attempt.lease_lost else outcome.fence
        times = attempt.times(self._clock(), *self._place)
        self._on_outcome(msgspec.structs.replace(outcome, fence=fence, times=times))

    # --- by another program

    def hand_over(self) -> HandedAttempts:
        """Return all that is in flight, for the program that goes on with it."""
        return HandedAttempts(
            last_request=self._last_request,
            attempts=dict(self._attempts),
            partial_answers=self._partial_answers.hand_over(),
        )

    def go_on(self, handed: HandedAttempts) -> None:
        """Take up what was handed over; the moments in it are of the same clock."""
        self._last_request = handed.last_request
        self._attempts = dict(handed.attempts)
        self._partial_answers.go_on(handed.partial_answers)
        self._timer.fire_by(min((each.due for each in self._attempts.values()), default=inf))

    # --- deadlines

    def _check_deadlines(self) -> float:
        """Announce what takes long, cancel what is overdue, and give up workers that keep it.

        Returns when to do so again.
        """
        now = self._clock()
        stuck = set()
        for request_id, attempt in self._attempts.items():
            if attempt.due > now:
                continue
            if attempt.cancelled_at is not None:
                stuck.add(attempt.worker)
            elif attempt.is_overdue(now):
                log.warning(
                    "question %d is past its deadline at %s", attempt.message_id, attempt.worker
                )
                self._cancel(request_id, attempt)
            else:
                attempt.announced = True
                self._questions.working(attempt.delivery)
        for worker in stuck:
            self._give_up(worker)
        return min((attempt.due for attempt in self._attempts.values()), default=inf)

    def _cancel(self, request_id: int, attempt: Attempt) -> None:
        """Ask the worker to cancel; when it does not, the watchdog kills it, or we disconnect."""
        attempt.cancelled_at = self._clock()
        self._timer.fire_by(attempt.due)
        self._workers.cancel(attempt.worker, request_id)

    def _give_up(self, worker: str) -> None:
        """Give up the link to a worker that keeps what it was asked to cancel.

        Nothing else would free its slots: it lives, and for the watchdog it is healthy. What else
        it has is asked again without a failed attempt, and a late reply finds no link.
        """
        log.error("%s kept a cancelled request: its link is given up", worker)
        for request_id, attempt in list(self._attempts.items()):
            if attempt.worker == worker:
                self.remove(request_id)
                cancelled = attempt.cancelled_at is not None
                self.conclude(attempt, outcomes.given_up(attempt.delivery, cancelled=cancelled))
        self._workers.disconnect(worker, "it kept a cancelled request")

    # --- leases

    def leases(self) -> list[tuple[int, int]]:
        """Return the (message_id, fence) of all that is in flight and ours."""
        return [
            (attempt.message_id, attempt.delivery.fence)
            for attempt in self._attempts.values()
            if not attempt.lease_lost
        ]

    def renew_leases(
        self, deliveries: DeliveryStore, owner: str, unsettled: list[tuple[int, int]]
    ) -> None:
        """Renew the leases of what is within its time; cancel what was lost. Raises BridgeError.

        With them it renews `unsettled`, the (message_id, fence) leases of what came back.
        """
        now = self._clock()
        held = {
            attempt.message_id: request_id
            for request_id, attempt in self._attempts.items()
            if now < attempt.lease_end and not attempt.lease_lost
        }
        leases = [(number, self._attempts[held[number]].delivery.fence) for number in held]
        kept = deliveries.renew(leases + unsettled, owner, self.lease_ms)
        for number in held.keys() - kept:
            self._lose(held[number], self._attempts[held[number]])

    def check_leases(self, deliveries: DeliveryStore, owner: str) -> None:
        """Cancel what is not ours any more: somebody has cancelled it. Raises BridgeError."""
        leases = self.leases()
        kept = deliveries.held(leases, owner) if leases else set()
        for request_id, attempt in self._attempts.items():
            if not attempt.lease_lost and attempt.message_id not in kept:
                self._lose(request_id, attempt)

    def reap(self, deliveries: DeliveryStore) -> list[Settled]:
        """Reap leases that have expired; return what became of them. Raises BridgeError."""
        reaped = deliveries.reap()
        gone = {each.message_id for each in reaped}
        for request_id, attempt in self._attempts.items():
            if attempt.message_id in gone and not attempt.lease_lost:
                self._lose(request_id, attempt)
        return reaped

    def _lose(self, request_id: int, attempt: Attempt) -> None:
        """Cancel what is somebody else's now; it takes up a slot until the worker has done so."""
        log.warning("the lease of question %d is lost", attempt.message_id)
        attempt.lease_lost = True
        if attempt.cancelled_at is None:
            self._cancel(request_id, attempt)
