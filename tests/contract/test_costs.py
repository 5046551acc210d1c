"""What answers have cost."""

import json

from answerers import LEASE
from bridge_calls import (
    UNPRICED,
    USED,
    answered,
    ask,
    claim,
    claim_one,
    costing,
    failed,
    released,
    settle,
    talk,
)
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Spent


def test_what_an_answer_has_cost_stands_in_its_metadata(bridge: Bridge) -> None:
    conversation = talk(bridge)
    (asked, other) = ask(bridge, conversation, "why?", "how?")
    settle(bridge, costing(answered(claim_one(bridge)), USED))
    answer = bridge.messages.query_state(asked).answer
    assert answer and json.loads(answer.metadata or "")["usage"] == {
        "input_tokens": 100,
        "output_tokens": 20,
        "cached_tokens": 3000,
        "cost_usd": 0.5,
    }
    settle(bridge, answered(claim_one(bridge)))
    answer = bridge.messages.query_state(other).answer
    assert answer and "usage" not in json.loads(answer.metadata or "")


def test_what_shards_cost_is_added_up_by_utc_day(store: Store) -> None:
    bridge = store.open()
    assert bridge.overview.spent("2027-01-15") == {}
    conversation, other = talk(bridge), talk(bridge, "other")
    ask(bridge, conversation, *"abcd")
    ask(bridge, other, "x")
    settle(bridge, costing(answered(claim_one(bridge)), UNPRICED))
    assert bridge.overview.spent("2027-01-15") == {
        "main": Spent(input_tokens=1, output_tokens=2, answers=1)
    }
    settle(bridge, costing(answered(claim_one(bridge)), USED))
    settle(bridge, answered(claim_one(bridge)))
    others = costing(answered(claim(bridge, shard="other")[0]), USED)
    bridge.deliveries.commit_turn([], [others], "me", {}, LEASE)
    assert bridge.overview.spent("2027-01-15") == {
        "main": Spent(
            input_tokens=101, output_tokens=22, cached_tokens=3000, cost_usd=0.5, answers=2
        ),
        "other": Spent(
            input_tokens=100, output_tokens=20, cached_tokens=3000, cost_usd=0.5, answers=1
        ),
    }
    store.clock.now += 16 * 3600_000  # 08:00 became midnight
    settle(bridge, costing(answered(claim_one(bridge)), UNPRICED))
    assert bridge.overview.spent("2027-01-16") == {
        "main": Spent(input_tokens=1, output_tokens=2, answers=1)
    }


def test_what_failed_has_cost_all_the_same(store: Store) -> None:
    bridge = store.open()
    (asked,) = ask(bridge, talk(bridge), "why?")
    settle(bridge, costing(failed(claim_one(bridge)), USED))
    settle(bridge, costing(released(claim_one(bridge)), USED))
    late = claim_one(bridge)
    store.clock.now += LEASE + 1
    bridge.deliveries.reap()
    settle(bridge, costing(failed(claim_one(bridge), permanent=True), USED))
    assert settle(bridge, costing(answered(late), USED)).state == "lost"
    assert bridge.overview.spent("2027-01-15")["main"] == Spent(
        input_tokens=400, output_tokens=80, cached_tokens=12000, cost_usd=2.0, answers=0
    )
    answer = bridge.messages.query_state(asked).answer
    assert answer and json.loads(answer.metadata or "")["usage"]["cached_tokens"] == 3000
