"""Conversations as they are listed, their audit log, and who is present in them."""

import json
from datetime import datetime

import pytest
from bridge_calls import ask, talk
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Presence
from autopoll.errors import AccessDenied, NotFound


def test_conversations_are_listed_without_tokens(bridge: Bridge, store: Store) -> None:
    first = bridge.conversations.create("asker", "memory \ud800")
    store.clock.now += 1
    second = bridge.conversations.create("asker", "reviewer")
    bridge.conversations.serve(second.conversation, "b", "main")
    ask(bridge, second.conversation, "1", "2")
    one, two = bridge.conversations.all()
    assert (one.id, one.role_b, one.served, one.messages) == (
        first.conversation,
        "memory \ufffd",
        {},
        0,
    )
    assert (two.served, two.messages, two.revoked) == ({"b": "main"}, 2, [])
    assert bridge.conversations.get(second.conversation) == two
    for token in (first.a, first.b, second.a, second.b):
        assert token not in repr((one, two))
    with pytest.raises(NotFound):
        bridge.conversations.get("conv_none")


def test_serving_an_unknown_conversation_is_refused(bridge: Bridge) -> None:
    with pytest.raises(NotFound):
        bridge.conversations.serve("conv_none", "b", "main")


def test_an_audit_line_is_json_without_secrets(bridge: Bridge, store: Store) -> None:
    bridge.conversations.audit(None, None, "looked", "AKIA" + "Q" * 16)
    bridge.conversations.audit("c", "a", "looked", '{"key": "AKIA' + "Q" * 16 + '"}')
    rows = store.foreign("SELECT details FROM audit_log")
    assert [json.loads(details) for (details,) in rows] == [
        {"text": "[redacted:aws-key]"},
        {"key": "[redacted:aws-key]"},
    ]


def test_failed_authentications_are_audited_and_cannot_flood_the_log(
    bridge: Bridge, store: Store
) -> None:
    tokens = bridge.conversations.create("asker", "shard")
    for round_ in range(200):
        with pytest.raises(AccessDenied):
            bridge.conversations.authenticate(tokens.conversation, f"{round_:064x}")
        with pytest.raises(NotFound):
            bridge.conversations.authenticate(f"conv_{round_}", tokens.a)
    denied = "SELECT conversation_id, details FROM audit_log WHERE action='access_denied'"
    (known, unknown) = store.foreign(denied)
    assert known[0] == tokens.conversation and unknown[0] is None
    assert json.loads(known[1]) == {"why": "wrong token", "count": 10, "or_more": True}
    store.clock.now += 61_000
    with pytest.raises(AccessDenied):
        bridge.conversations.authenticate(tokens.conversation, "x")
    assert len(store.foreign(denied)) == 3


def test_refusals_are_audited_a_line_a_minute_for_each_reason(bridge: Bridge, store: Store) -> None:
    conversation = talk(bridge)
    for _ in range(50):
        bridge.conversations.audit_denial(conversation, "a question of another conversation")
        bridge.conversations.audit_denial(None, "wrong Host")
        bridge.conversations.audit_denial(None, "body too large")
    lines = store.foreign(
        "SELECT conversation_id, details FROM audit_log WHERE action='access_denied'"
    )
    whys = [(where, json.loads(details)["why"]) for where, details in lines]
    assert whys == [
        (conversation, "a question of another conversation"),
        (None, "wrong Host"),
        (None, "body too large"),
    ]


def test_a_served_session_is_announced_as_alive_to_legacy_partners(store: Store) -> None:
    bridge = store.open()
    conversation = bridge.conversations.create("asker", "shard").conversation
    bridge.conversations.serve(conversation, "b", "main")
    for _ in range(2):
        bridge.conversations.announce()
    ((session, status, at),) = store.foreign(
        "SELECT session_id, status, last_heartbeat FROM session_status"
    )
    assert (session, status) == ("b", "active")
    assert datetime.fromisoformat(at).tzinfo is None


def test_a_status_is_seen_by_the_partner_and_by_legacy_programs(store: Store) -> None:
    bridge = store.open()
    conversation = bridge.conversations.create("asker", "reviewer").conversation
    assert bridge.conversations.presence(conversation, "a") == Presence(
        session="a", status="unknown", at=None, age_s=None, alive=False
    )
    for status in ("working", "blocked"):
        bridge.conversations.set_status(conversation, "a", status)
    seen = bridge.conversations.presence(conversation, "a")
    assert (seen.status, seen.alive) == ("blocked", True)
    assert store.foreign("SELECT session_id, status, last_heartbeat FROM session_status") == [
        ("a", "blocked", seen.at)
    ]
    assert seen.at is not None
    assert datetime.fromisoformat(seen.at).tzinfo is None


@pytest.mark.parametrize(
    ("at", "alive"),
    [("2020-01-01T00:00:00", False), ("never", False), ("2999-01-01T00:00:00", True)],
)
def test_only_a_fresh_sign_of_life_counts(store: Store, at: str, alive: bool) -> None:
    bridge = store.open()
    conversation = bridge.conversations.create("asker", "reviewer").conversation
    store.foreign("INSERT INTO session_status VALUES (?, 'b', 'waiting', ?)", conversation, at)
    assert bridge.conversations.presence(conversation, "b").alive == alive


def test_there_is_no_status_without_a_conversation(store: Store) -> None:
    bridge = store.open()
    with pytest.raises(NotFound):
        bridge.conversations.set_status("conv_0000000000000000", "a", "working")
    with pytest.raises(NotFound):
        bridge.conversations.presence("conv_0000000000000000", "a")
