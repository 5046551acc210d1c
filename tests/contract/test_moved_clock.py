"""The clock on the wall is moved, by an hour or a year, and everything goes on."""

import time

import pytest
from answerers import LEASE, take_over
from bridge_calls import (
    OWN,
    answered,
    ask,
    claim,
    claim_one,
    failed,
    once,
    renew,
    settle,
    stored,
    talk,
)
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import IdempotencyKey
from autopoll.errors import RateLimited

DAY_MS = 24 * 3600 * 1000


def test_after_the_clock_was_set_back_nothing_waits_for_the_old_time(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2", metadata=OWN)
    failing, held = claim(bridge)
    settle(bridge, failed(failing, 30_000))
    store.clock.now -= 3_600_000
    assert bridge.deliveries.reap() == []
    again = claim_one(bridge)
    assert again.message_id == failing.message_id
    settle(bridge, answered(again))
    assert bridge.messages.query_state(again.message_id).state == "done"
    store.clock.now += LEASE + 1
    assert [settled.message_id for settled in bridge.deliveries.reap()] == [held.message_id]
    assert bridge.overview.latencies_ms() == [0]


MOVES_MS = (DAY_MS, 31 * DAY_MS, 365 * DAY_MS, -3_600_000)


@pytest.mark.parametrize("moved", MOVES_MS)
def test_wherever_the_clock_is_moved_every_operation_does_what_it_did(
    store: Store, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, real = store.clock.now, time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + (store.clock.now - start) * 1_000_000)
    bridge = store.open(rate_per_s=1.0, rate_burst=6)
    take_over(bridge, "me")
    tokens = bridge.conversations.create("asker", "shard")
    name = tokens.conversation
    bridge.conversations.serve(name, "b", "main")
    ids = ask(bridge, name, "held?", "failing?", "waiting?", metadata=OWN)
    held, failing = claim(bridge, count=2)
    settle(bridge, failed(failing, 30_000))
    key = IdempotencyKey(scope="s", name="once", digest=b"d")
    keyed = stored(once(bridge, name, "keyed?", key)).id
    bridge.conversations.set_status(name, "a", "here")
    bridge.conversations.announce()

    store.clock.now += moved

    # Who holds a lease and renews it first loses it to nobody, and settles under it.
    assert renew(bridge, held)
    assert bridge.deliveries.reap() == []
    settle(bridge, answered(held))
    # Nothing that waits waits for the old time, and the budget is never shut for as long as a step.
    assert {each.message_id for each in claim(bridge)} == {failing.message_id, ids[2], keyed}
    for _ in range(2):
        try:
            ask(bridge, name, "more?", metadata=OWN)
        except RateLimited as error:
            assert error.wait_ms <= 1000
            store.clock.now += error.wait_ms
            ask(bridge, name, "more?", metadata=OWN)
    again = stored(once(bridge, name, "keyed?", key))
    assert again.fresh == (moved >= DAY_MS), "a key is remembered for a day"
    # What is shown is never below nothing, and who gave a sign of life now is alive.
    assert bridge.conversations.presence(name, "a").age_s == pytest.approx(
        max(0.0, moved / 1000), abs=60
    )
    bridge.conversations.announce()
    assert bridge.conversations.presence(name, "b").alive
    bridge.conversations.set_status(name, "a", "here")
    shown = bridge.conversations.presence(name, "a")
    assert shown.alive and shown.age_s is not None and 0 <= shown.age_s < 60
    assert min(bridge.overview.latencies_ms()) >= 0
    assert all(each.latency_ms >= 0 for each in bridge.overview.finished(0, 100))
    assert {each.state for each in bridge.overview.backlog()} == {"leased", "sent"}
    # A token is renewed by whoever keeps it, opens, and can be replaced and revoked.
    assert (
        bridge.conversations.renew_token(name, tokens.a)
        and bridge.conversations.authenticate(name, tokens.a) == "a"
    )
    assert bridge.conversations.find_by_token(tokens.b) == name
    assert (
        bridge.conversations.authenticate(name, bridge.conversations.rotate_token(name, "b")) == "b"
    )
    bridge.conversations.audit_denial(name, "wrong token")
    # The next owner frees whatever is held, and nothing else becomes of it.
    assert take_over(bridge, "the next") == 3
    for each in claim(bridge, owner="the next"):
        assert each.attempt == (2 if each.message_id == failing.message_id else 1)
        settle(bridge, answered(each), "the next")
    counts = bridge.overview.counts()
    assert counts["dead"] == counts["leased"] == counts["ready"] == counts["queued"] == 0
