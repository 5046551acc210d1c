"""Cancels questions: each gets an error answer that says by whom and when."""

from collections.abc import Iterator, Sequence

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.queue_records import Cancelled
from autopoll.clock import utc_iso, zoned
from autopoll.home.home import Home
from autopoll.message import answered_by
from autopoll.process.nudge import nudge
from autopoll.text import storable

_AT_ONCE = 100  # questions in one commit


def cancel(home: Home, bridge: Bridge, ids: Sequence[int], by: str) -> Iterator[Cancelled]:
    """Cancel questions and yield what came of each; the poller, if there is one, looks at once.

    Raises BridgeError, with those done that were yielded.
    """
    words = f"Cancelled by {storable(by)} at {zoned(utc_iso())}"
    for first in range(0, len(ids), _AT_ONCE):
        done = bridge.deliveries.cancel(ids[first : first + _AT_ONCE], words)
        nudge(home)
        yield from done


def refusal(bridge: Bridge, done: Cancelled) -> tuple[str, str] | None:
    """Return why a question was not cancelled, and the mend; None when it was.

    Raises BridgeError.
    """
    number = done.message_id
    match done.outcome:
        case "settled":
            ended = "is answered already" if done.was == "done" else "has its error answer already"
            return f"question {number} {ended}", f"Read it with: autopoll answer {number}"
        case "marked before":
            by = done.query.last_error if done.query else None
            return f"question {number} waits for its turn: {by}", "Nothing was changed."
        case "unserved":
            question = answered_by(bridge.messages.message(number).metadata)
            if question is not None:
                read = f"Read it with: autopoll answer {question}"
                return f"message {number} is the answer to question {question}", read
            return f"message {number} is no question to a shard", "List those: autopoll queue"
        case "unknown":
            return f"there is no question {number}", "List those that wait: autopoll queue"
    return None
