"""What becomes of a delivery: each reply, failure or death of a worker leads to one outcome."""

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


def given_up(delivery: Delivery, *, cancelled: bool) -> Outcome:
    """Return the outcome of what a worker had when its link was given up."""
    if not cancelled:
        return released(delivery)
    return _failed(delivery, "timeout: the worker neither answered nor let go of it")


def of_reply(delivery: Delivery, payload: bytes) -> Outcome:
    """Return the outcome of a REPLY's payload."""
    try:
        reply = _read_reply(payload)
        return answered(delivery, reply.answer, reply.usage)
    except msgspec.MsgspecError as error:
        return _failed(delivery, f"unreadable reply: {error}")


def read_failure(payload: bytes) -> Failure:
    """Return the failure that a FAILURE's payload holds, readable or not."""
    try:
        return msgspec.msgpack.decode(payload, type=Failure)
    except msgspec.MsgspecError as error:
        return Failure(kind="unreadable failure", message=str(error))


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
