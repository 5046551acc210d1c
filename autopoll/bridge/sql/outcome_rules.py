"""What an outcome makes of a leased delivery: done, ready again, or dead."""

from msgspec import to_builtins

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
                return self._end(held, outcome.answer, seconds=outcome.seconds, usage=outcome.usage)
            case Failed(permanent=True):
                return self._end_dead(held, outcome.error, outcome.error, outcome.usage)
            case Failed():
                return self.fail(held, outcome.error, now, outcome.wait_ms, outcome.usage)
            case Released():
                return self.release(held, now)

    def release(self, held: HeldDelivery, now: int) -> ReadyDelivery:
        """Return it ready again, with the attempt given back."""
        return ReadyDelivery(held, held.attempts - 1, now, None)

    def fail(
        self, held: HeldDelivery, error: str, now: int, wait_ms: int = 0, usage: Usage | None = None
    ) -> EndedDelivery | ReadyDelivery:
        """Return it ready to be tried again, or dead when its attempts are used up."""
        if held.attempts < self._limits.max_attempts:
            return ReadyDelivery(held, held.attempts, now + wait_ms, self._clean(error))
        times = "1 attempt" if held.attempts == 1 else f"{held.attempts} attempts"
        return self._end_dead(held, f"No answer after {times}: {error}", error, usage)

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
