"""What tests ask of a bridge, in few words."""

import random
import time
from typing import Any

import msgspec
from answerers import LEASE

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import (
    Answered,
    Arrival,
    CommittedTurn,
    Delivery,
    Failed,
    IdempotencyKey,
    Outcome,
    Released,
    SentMessage,
    Settled,
)
from autopoll.client.new_arrivals import message_arrival
from autopoll.errors import AutopollError
from autopoll.message import Answer, write_query
from autopoll.request import Usage

OWN = '{"lane": "own"}'
UNPRICED = Usage(input_tokens=1, output_tokens=2)
USED = Usage(input_tokens=100, output_tokens=20, cached_tokens=3000, cost_usd=0.5)


def talk(bridge: Bridge, shard: str | None = "main") -> str:
    conversation = bridge.conversations.create("asker", "shard").conversation
    if shard:
        bridge.conversations.serve(conversation, "b", shard)
    return conversation


def arrival(conversation: str, text: str, **given: Any) -> Arrival:
    """Return a question as an asker of ours sends it, by a name that is random unless given."""
    query_id = given.pop("query_id", f"q-{random.getrandbits(64):016x}")
    facts = {"session": "a", "metadata": OWN, "sent_at": time.monotonic(), **given}
    asked = write_query(text, query_id)
    return Arrival(query_id=query_id, conversation=conversation, text=asked, **facts)


def stored(one: SentMessage | AutopollError) -> SentMessage:
    assert isinstance(one, SentMessage), one
    return one


def once(
    bridge: Bridge, conversation: str, text: str, key: IdempotencyKey
) -> SentMessage | AutopollError:
    """Store a question under a key."""
    [one] = bridge.messages.store([arrival(conversation, text, key=key)])
    return one


def send(
    bridge: Bridge, conversation: str, session: str, *texts: str, metadata: str | None = None
) -> list[int]:
    """Store texts of a session as they are, by one commit; raise why one of them is refused."""
    new = [message_arrival(text, metadata, conversation, session) for text in texts]
    sent = bridge.messages.store(new)
    for one in sent:
        if isinstance(one, AutopollError):
            raise one
    return [stored(one).id for one in sent]


def ask(bridge: Bridge, conversation: str, *texts: str, metadata: str | None = None) -> list[int]:
    return send(bridge, conversation, "a", *texts, metadata=metadata)


def ask_many(
    bridge: Bridge, conversation: str, count: int, metadata: str | None = None
) -> list[int]:
    """Store so many questions by a few statements, as those that have a name are."""
    new = [arrival(conversation, f"{number}", metadata=metadata) for number in range(count)]
    return [stored(one).id for one in bridge.messages.store(new)]


def claim(
    bridge: Bridge, count: int = 10, shard: str = "main", owner: str = "me"
) -> list[Delivery]:
    return bridge.deliveries.claim(owner, {shard: count}, LEASE)


def claim_one(bridge: Bridge) -> Delivery:
    (delivery,) = claim(bridge)
    return delivery


def turn(bridge: Bridge, *arrivals: Arrival, count: int = 10, **given: Any) -> CommittedTurn:
    outcomes = given.pop("outcomes", [])
    return bridge.deliveries.commit_turn(arrivals, outcomes, "me", {"main": count}, LEASE)


def answered(delivery: Delivery, text: str = "yes") -> Answered:
    return Answered(message_id=delivery.message_id, fence=delivery.fence, answer=Answer(text=text))


def failed(delivery: Delivery, wait_ms: int = 0, *, permanent: bool = False) -> Failed:
    return Failed(
        message_id=delivery.message_id,
        fence=delivery.fence,
        error="it broke",
        wait_ms=wait_ms,
        permanent=permanent,
    )


def released(delivery: Delivery) -> Released:
    return Released(message_id=delivery.message_id, fence=delivery.fence)


def costing(outcome: Outcome, usage: Usage) -> Outcome:
    return msgspec.structs.replace(outcome, usage=usage)


def settle(bridge: Bridge, outcome: Outcome, owner: str = "me") -> Settled:
    (settled,) = bridge.deliveries.settle([outcome], owner)
    return settled


def renew(bridge: Bridge, delivery: Delivery, owner: str = "me") -> bool:
    """Renew one lease and return whether it is still held."""
    held = bridge.deliveries.renew([(delivery.message_id, delivery.fence)], owner, LEASE)
    return held == {delivery.message_id}


def key(name: str = "k", digest: bytes = b"1", scope: str = "me") -> IdempotencyKey:
    return IdempotencyKey(scope=scope, name=name, digest=digest)
