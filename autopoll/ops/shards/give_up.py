"""Settles questions to a shard that has no workers any more: all of them, or one."""

import secrets
import time
from collections.abc import Callable

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Delivery, Failed
from autopoll.errors import AutopollError
from autopoll.message import Answer
from autopoll.poller import outcomes

LEASE_MS = 60_000
AT_ONCE = 100
LATEST_S = 60.0  # until the last retry of a question is due, and it can be taken
STEP_S = 0.2

Report = Callable[[str], None]


def give_up(bridge: Bridge, shard: str, why: str, report: Report) -> int:
    """Make a dead letter of every question that waits for a shard; return how many."""
    owner = secrets.token_hex(8)
    count = 0
    end = time.monotonic() + LATEST_S
    while True:
        taken = bridge.deliveries.claim(owner, {shard: AT_ONCE}, LEASE_MS)
        # Clients that wait poll once a second, so no bell is rung.
        count += len(bridge.deliveries.settle([_dead(each, why) for each in taken], owner))
        if taken:
            continue
        if not (left := bridge.overview.waiting().get(shard, 0)):
            return count
        _wait_for_retry(f"{left} questions to shard {shard}", shard, end, report)


def give_up_one(bridge: Bridge, message_id: int, shard: str, why: str, report: Report) -> None:
    """Answer one question to a shard with an error, unless it is gone; keep no dead letter of it.

    A claim takes what waits for a shard, whoever asked. So the conversation is routed to a shard of
    nobody's meanwhile; what else waits in it may be answered likewise.
    """
    if not bridge.messages.query_states([message_id]):
        return  # what was answered is removed by its asker
    asked = bridge.messages.message(message_id)
    conversation, session = asked.conversation, asked.recipient
    owner = secrets.token_hex(8)
    nobodys = f"{shard}-{owner}"
    end = time.monotonic() + LATEST_S
    try:
        while bridge.messages.query_state(message_id).settled_at is None:
            # Each time, as what is leased stays with its shard.
            bridge.conversations.serve(conversation, session, nobodys)
            taken = bridge.deliveries.claim(owner, {nobodys: AT_ONCE}, LEASE_MS)
            error = Answer(text=why, error=True)
            bridge.deliveries.settle([outcomes.answered(each, error) for each in taken], owner)
            if not taken:
                _wait_for_retry(f"question {message_id}", shard, end, report)
    finally:
        bridge.conversations.serve(conversation, session, shard)


def _wait_for_retry(what: str, shard: str, end: float, report: Report) -> None:
    if time.monotonic() > end:
        raise AutopollError(
            f"{what} cannot be settled yet",
            f"They are kept; give them up later: autopoll shards remove {shard} --force",
        )
    report(f"{what}: about to be tried again, waiting for that")
    time.sleep(STEP_S)


def _dead(delivery: Delivery, why: str) -> Failed:
    return Failed(
        message_id=delivery.message_id,
        fence=delivery.fence,
        error=why,
        wait_ms=0,
        permanent=True,
    )
