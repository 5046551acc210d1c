"""What becomes of a delivery: replies, failures and deaths made outcomes, here and only here."""

import msgspec

from autopoll.bridge.records import Answered, Delivery, Failed, Outcome, Released
from autopoll.clock import backoff_ms, wall_ms
from autopoll.message import Answer
from autopoll.request import Failure, Reply, Usage

_read_reply = msgspec.msgpack.Decoder(Reply).decode


def answered(delivery: Delivery, answer: Answer, usage: Usage | None = None) -> Answered:
    """Return the outcome that writes an answer, which may say why there is none."""
    return Answered(
        message_id=delivery.message_id,
        fence=delivery.fence,
        answer=answer,
        seconds=max(0.0, (wall_ms() - delivery.enrolled_at) / 1000),
        usage=usage,
    )


def released(delivery: Delivery, usage: Usage | None = None) -> Released:
    """Return the outcome of what was never begun: it is ready again, with no attempt used."""
    return Released(message_id=delivery.message_id, fence=delivery.fence, usage=usage)


def worker_died(delivery: Delivery, reason: str, *, begun: bool) -> Outcome:
    """Return the outcome for a worker that is gone; only what it had begun costs an attempt."""
    return _failed(delivery, f"worker-died: {reason}") if begun else released(delivery)


def kept(delivery: Delivery, *, given_up: bool) -> Outcome:
    """Return the outcome of what a worker had that did not let go of what was `given_up`."""
    if not given_up:
        return released(delivery)
    return _failed(delivery, "timeout: the worker neither answered nor let go of it")


def of_reply(delivery: Delivery, payload: bytes) -> Outcome:
    """Return the outcome of a REPLY's payload."""
    try:
        reply = _read_reply(payload)
        return answered(delivery, reply.answer, reply.usage)
    except msgspec.MsgspecError as error:
        return _failed(delivery, f"unreadable reply: {error}")


def of_failure(delivery: Delivery, failure: Failure) -> Outcome:
    """Return the outcome of a failure by its kind."""
    match failure.kind:
        case "permanent":
            return Failed(
                message_id=delivery.message_id,
                fence=delivery.fence,
                error=failure.message,
                wait_ms=0,
                permanent=True,
                usage=failure.usage,
            )
        case "draining" | "unavailable":
            return released(delivery, failure.usage)
        case kind:
            error = f"{kind}: {failure.message}"
            return _failed(delivery, error, failure.retry_after_ms, failure.usage)


def _failed(
    delivery: Delivery, error: str, wait_ms: int | None = None, usage: Usage | None = None
) -> Failed:
    return Failed(
        message_id=delivery.message_id,
        fence=delivery.fence,
        error=error,
        wait_ms=backoff_ms(delivery.attempt) if wait_ms is None else wait_ms,
        usage=usage,
    )
