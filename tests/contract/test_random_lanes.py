"""Random calls in any order, held against a model of the lanes."""

import random
from collections.abc import Callable

import msgspec
import pytest
from answerers import LEASE, take_over
from bridge_calls import (
    OWN,
    answered,
    arrival,
    ask,
    claim,
    failed,
    released,
    settle,
    talk,
)
from bridge_stores import ENGINES, Store
from hypothesis import given, settings
from hypothesis import strategies as st

from autopoll.bridge.records import Arrival, Delivery, SentMessage, Settled, Stored


class Model:
    """What must be true of every lane, whatever happens: in order, one at a time, one answer."""

    def __init__(self, store: Store, max_attempts: int) -> None:
        self.store = store
        self.bridges = [store.open(max_attempts=max_attempts) for _ in range(2)]
        self.talks = [talk(self.bridges[0]) for _ in range(3)]
        self.waiting: dict[str, list[int]] = {}
        self.arrived: dict[Arrival, int] = {}
        self.held: dict[int, Delivery] = {}
        self.stale: list[tuple[Delivery, str]] = []
        self.finished: dict[int, str] = {}
        self.owner = ""
        self.over()

    def step(self, chance: random.Random) -> None:
        bridge = chance.choice(self.bridges)
        match chance.choice(
            [
                "ask",
                "claim",
                "claim",
                "turn",
                "settle",
                "settle",
                "stale",
                "late",
                "over",
            ]
        ):
            case "ask":
                conversation, own = chance.choice(self.talks), chance.random() < 0.3
                for asked in ask(
                    bridge, conversation, *"?" * chance.randint(1, 3), metadata=OWN if own else None
                ):
                    lane = f"m{asked}" if own else f"{conversation}/b"
                    self.waiting.setdefault(lane, []).append(asked)
            case "claim":
                self.hold(claim(bridge, chance.randint(0, 4), owner=self.owner))
            case "turn":
                arrivals = [self.arrival(chance) for _ in range(chance.randint(0, 3))]
                held = chance.sample(list(self.held.values()), len(self.held) // 2)
                outcomes = [answered(each) for each in held]
                room = {"main": chance.randint(0, 4)}
                stored, settled, taken = bridge.deliveries.commit_turn(
                    arrivals, outcomes, self.owner, room, LEASE
                )
                self.keep(arrivals, stored)
                for delivery, one in zip(held, settled, strict=True):
                    self.note(delivery, one)
                self.hold(taken)
            case "settle" if self.held:
                for delivery in chance.sample(list(self.held.values()), len(self.held)):
                    wait = chance.choice([0, 300])
                    choices = [answered(delivery), failed(delivery, wait), released(delivery)]
                    self.note(delivery, settle(bridge, chance.choice(choices), self.owner))
            case "stale" if self.stale:
                stale, owner = chance.choice(self.stale)
                became = self.finished.get(stale.message_id, "ready")
                before = bridge.messages.query_state(stale.message_id)
                assert settle(bridge, answered(stale), owner).state in ("lost", became)
                assert bridge.messages.query_state(stale.message_id) == before
            case "late":
                self.store.clock.now += chance.choice([200, LEASE // 2, LEASE + 1])
                for settled in bridge.deliveries.reap():
                    self.note(self.held[settled.message_id], settled)
            case "over" if chance.random() < 0.3:
                self.over()

    def arrival(self, chance: random.Random) -> Arrival:
        """Return a question as it arrives, perhaps one that was stored by an earlier try."""
        if self.arrived and chance.random() < 0.3:
            return msgspec.structs.replace(chance.choice(list(self.arrived)), repeated=True)
        own = OWN if chance.random() < 0.3 else None
        return arrival(chance.choice(self.talks), "?", metadata=own)

    def keep(self, arrivals: list[Arrival], stored: list[Stored]) -> None:
        """Note what has become of arrivals, of which each is stored once."""
        for arrived, one in zip(arrivals, stored, strict=True):
            assert isinstance(one, SentMessage)
            first = msgspec.structs.replace(arrived, repeated=False)
            assert one.fresh == (first not in self.arrived)
            assert self.arrived.setdefault(first, one.id) == one.id
            if one.fresh:
                lane = f"m{one.id}" if arrived.metadata else f"{arrived.conversation}/b"
                self.waiting.setdefault(lane, []).append(one.id)

    def over(self) -> None:
        self.stale += [(delivery, self.owner) for delivery in self.held.values()]
        self.owner += "'"
        assert take_over(self.bridges[0], self.owner) == len(self.held)
        self.held.clear()

    def hold(self, taken: list[Delivery]) -> None:
        for delivery in taken:
            assert delivery.message_id == self.waiting[delivery.lane][0], "out of order"
            assert delivery.message_id not in self.held, "handed out twice"
            self.held[delivery.message_id] = delivery

    def note(self, delivery: Delivery, settled: Settled) -> None:
        assert settled.state in ("done", "ready", "dead")
        self.stale.append((self.held.pop(delivery.message_id), self.owner))
        if settled.state != "ready":
            assert self.waiting[delivery.lane].pop(0) == delivery.message_id
            self.finished[delivery.message_id] = settled.state

    def finish(self) -> None:
        bridge = self.bridges[0]
        while any(self.waiting.values()):
            self.store.clock.now += LEASE + 1
            for settled in bridge.deliveries.reap():
                self.note(self.held[settled.message_id], settled)
            for delivery in claim(bridge, 99, owner=self.owner):
                assert delivery.message_id == self.waiting[delivery.lane][0]
                self.held[delivery.message_id] = delivery
                self.note(delivery, settle(bridge, answered(delivery), self.owner))
        for asked, state in self.finished.items():
            assert bridge.messages.query_state(asked).state == state
        answers = self.store.foreign("SELECT count(*) FROM messages WHERE from_session='b'")
        assert answers == [(len(self.finished),)]
        counts = bridge.overview.counts()
        assert counts["done"] + counts["dead"] == sum(counts.values()) == len(self.finished)


@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_lanes_keep_their_order_and_every_question_its_one_answer(
    new_store: Callable[[str], Store], seed: int, engine: str
) -> None:
    store = new_store(engine)
    model, chance = Model(store, max_attempts=3), random.Random(seed)
    for _ in range(60):
        model.step(chance)
    model.finish()
    store.close()
