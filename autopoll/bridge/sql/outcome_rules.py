"""What an outcome makes of a leased delivery: done, ready again, or dead."""

from msgspec import to_builtins

from autopoll.bridge.attempt_record import record_of, with_record
from autopoll.bridge.records import Answered, BridgeLimits, Failed, Outcome, Released
from autopoll.bridge.sql.held_delivery import EndedDelivery, HeldDelivery, ReadyDelivery
from autopoll.bridge.sql.rows import readable
from autopoll.message import Answer, write_answer
from autopoll.redact.redact import redact
from autopoll.request import Usage
from autopoll.text import storable


class OutcomeRules:
    """The rules under the limits of one store; nothing is written here."""

    def __init__(self, limits: BridgeLimits) -> None:
        self._limits = limits

    def apply(
        self, held: HeldDelivery, outcome: Outcome, now: int
    ) -> EndedDelivery | ReadyDelivery:
        """Return what becomes of a delivery by an outcome."""
        match outcome:
            case Answered():
                ended = self._end(
                    held, outcome.answer, seconds=outcome.seconds, usage=outcome.usage
                )
                return self._recorded(ended, now, outcome)
            case Failed(permanent=True):
                dead = self._end_dead(held, outcome.error, outcome.error, outcome.usage)
                return self._recorded(dead, now, outcome)
            case Failed():
                return self._fail(held, outcome, now)
            case Released():
                return self._recorded(self._release(held, now), now, outcome)

    def cancel(self, held: HeldDelivery, words: str) -> EndedDelivery:
        """Return it ended by somebody who wants no answer; `words` say who and when."""
        return self._end_dead(held, words, words, None)._replace(cancelled=True)

    def release(self, held: HeldDelivery, now: int) -> EndedDelivery | ReadyDelivery:
        """Return it ready again, with the attempt given back."""
        return self._recorded(self._release(held, now), now)

    def fail(self, held: HeldDelivery, error: str, now: int) -> EndedDelivery | ReadyDelivery:
        """Return it ready to be tried again at once, or dead when its attempts are used up."""
        failed = Failed(message_id=held.message_id, fence=held.fence, error=error, wait_ms=0)
        return self._fail(held, failed, now)

    def _release(self, held: HeldDelivery, now: int) -> ReadyDelivery:
        return ReadyDelivery(held, held.attempts - 1, now, None)

    def _fail(self, held: HeldDelivery, failed: Failed, now: int) -> EndedDelivery | ReadyDelivery:
        error = failed.error
        if held.attempts < self._limits.max_attempts:
            ready = ReadyDelivery(held, held.attempts, now + failed.wait_ms, self._clean(error))
            return self._recorded(ready, now, failed)
        times = "1 attempt" if held.attempts == 1 else f"{held.attempts} attempts"
        dead = self._end_dead(held, f"No answer after {times}: {error}", error, failed.usage)
        return self._recorded(dead, now, failed)

    def _recorded(
        self, end: EndedDelivery | ReadyDelivery, now: int, outcome: Outcome | None = None
    ) -> EndedDelivery | ReadyDelivery:
        """Return the end of an attempt with what is kept of that."""
        match end, outcome:
            case EndedDelivery(state="done"), _:
                became = "answered"
            case EndedDelivery(), _:
                became = "dead"
            case _, Failed():
                became = "failed"
            case _:
                became = "released"
        times, usage = (outcome.times, outcome.usage) if outcome else (None, None)
        record = record_of(end.held.attempts, became, now, times, end.error, usage)
        return end._replace(history=with_record(end.held.history, record))

    def _end_dead(
        self, held: HeldDelivery, text: str, error: str, usage: Usage | None
    ) -> EndedDelivery:
        return self._end(held, Answer(text=text, error=True), error=error, usage=usage)

    def _end(
        self,
        held: HeldDelivery,
        answer: Answer,
        *,
        seconds: float = 0.0,
        error: str | None = None,
        usage: Usage | None = None,
    ) -> EndedDelivery:
        """Return the one answer and the end of its delivery: dead when there is an `error`."""
        text, metadata = write_answer(
            readable(held.question) or "",
            Answer(text=self._clean(answer.text), sources=answer.sources, error=answer.error),
            message_id=held.message_id,
            shard=held.shard,
            attempt=held.attempts,
            seconds=seconds,
            usage=to_builtins(usage),
        )
        state = "done" if error is None else "dead"
        return EndedDelivery(held, state, error and self._clean(error), storable(text), metadata)

    def _clean(self, text: str) -> str:
        return storable(redact(text) if self._limits.redact else text)
