"""What tests of the engine on PostgreSQL ask of a bridge beside what those of every engine do."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from bridge_calls import answered, ask, claim_one, settle, talk
from postgres_server import DatabaseServer

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import LONGEST_CALL_S, Delivery
from autopoll.errors import BridgeError, BridgeUnavailable

LOADED_S = 1.0  # that a call may take longer on a machine that has much else to do

_Result = TypeVar("_Result")


@contextmanager
def within(seconds: float = LONGEST_CALL_S) -> Iterator[None]:
    """Require that the block takes no longer."""
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    assert took < seconds + LOADED_S, f"{took:.1f} s"


def repeated(
    call: Callable[[], _Result],
    seconds: float = 15.0,
    error: type[BridgeError] = BridgeUnavailable,
) -> _Result:
    """Make a call again while it raises an error, each in the time of one; return its result."""
    end = time.monotonic() + seconds
    while True:
        try:
            with within():
                return call()
        except error:
            assert time.monotonic() < end
            time.sleep(0.05)


def claimed(bridge: Bridge) -> Delivery:
    """Have a question asked in a conversation of its own, and claim it."""
    ask(bridge, talk(bridge), "why?")
    return claim_one(bridge)


def answers(bridge: Bridge, delivery: Delivery) -> list[int]:
    """Return the numbers of all that was answered in the conversation of a question."""
    read = bridge.messages.find(conversation=delivery.conversation, session="a")
    return [message.id for message in read]


def require_one_answer(bridge: Bridge, delivery: Delivery) -> None:
    """Answer a question that is held, and see that it has one answer then."""
    settled = settle(bridge, answered(delivery))
    assert settled.state == "done"
    assert answers(bridge, delivery) == [settled.answer_id]


def waiting_for_locks(server: DatabaseServer) -> int:
    """Return how many sessions wait for a lock."""
    [(count,)] = server.run_sql(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type='Lock'"
    )
    return int(count)
