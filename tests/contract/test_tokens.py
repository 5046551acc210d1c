"""Tokens: what they prove, for how long, and what becomes of them."""

import pytest
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.errors import AccessDenied, NotFound, UsageError

DAY_MS = 24 * 3600 * 1000


def test_a_token_proves_its_session(bridge: Bridge) -> None:
    tokens = bridge.conversations.create("asker", "shard")
    assert bridge.conversations.authenticate(tokens.conversation, tokens.a) == "a"
    assert bridge.conversations.authenticate(tokens.conversation, tokens.b) == "b"


def test_tokens_are_stored_as_hashes_that_open_nothing(bridge: Bridge, store: Store) -> None:
    tokens = bridge.conversations.create("asker", "shard")
    ((stored, expires),) = store.foreign("SELECT session_a_token, expires_at FROM conversations")
    assert stored.startswith("sha256$") and tokens.a not in stored
    assert "+" not in expires and "Z" not in expires
    for presented in (stored, stored.removeprefix("sha256$")):
        with pytest.raises(AccessDenied):
            bridge.conversations.authenticate(tokens.conversation, presented)


@pytest.mark.parametrize(
    "token",
    ["", "0" * 64, "é" * 64, "\ud800", "\0", "x", "A" * 64, "٣" * 64, "0" * 65, "0" * 10**6],
)
def test_a_wrong_or_malformed_token_is_denied(bridge: Bridge, token: str) -> None:
    tokens = bridge.conversations.create("asker", "shard")
    with pytest.raises(AccessDenied) as denied:
        bridge.conversations.authenticate(tokens.conversation, token)
    assert not token or token == "x" or token not in str(denied.value)


def test_a_clear_token_of_a_legacy_program_is_accepted(bridge: Bridge, store: Store) -> None:
    insert = "INSERT INTO conversations VALUES('conv_l','r','r',?,?,'2020-01-01T00:00:00',?)"
    store.foreign(insert, "1" * 64, "secret", "2999-01-01T00:00:00")
    assert bridge.conversations.authenticate("conv_l", "1" * 64) == "a"
    with pytest.raises(AccessDenied):
        bridge.conversations.authenticate("conv_l", "secret")


def test_rotation_and_revocation_end_the_old_token_at_once(bridge: Bridge, store: Store) -> None:
    tokens = bridge.conversations.create("asker", "shard")
    new = bridge.conversations.rotate_token(tokens.conversation, "a")
    with pytest.raises(AccessDenied):
        bridge.conversations.authenticate(tokens.conversation, tokens.a)
    assert bridge.conversations.authenticate(tokens.conversation, new) == "a"
    bridge.conversations.revoke_token(tokens.conversation, "a")
    ((stored,),) = store.foreign("SELECT session_a_token FROM conversations")
    for token in (new, stored, stored.removeprefix("revoked$")):
        with pytest.raises(AccessDenied):
            bridge.conversations.authenticate(tokens.conversation, token)
    assert bridge.conversations.authenticate(tokens.conversation, tokens.b) == "b"
    assert bridge.conversations.get(tokens.conversation).revoked == ["a"]
    with pytest.raises(NotFound):
        bridge.conversations.rotate_token("conv_none", "a")
    with pytest.raises(UsageError):
        bridge.conversations.revoke_token(tokens.conversation, "a_token=''--")


def test_a_token_in_use_lives_on_and_an_idle_one_expires(store: Store) -> None:
    bridge = store.open(token_lifetime_s=1000.0)
    tokens = bridge.conversations.create("asker", "shard")
    for _ in range(5):
        store.clock.now += 700_000
        assert bridge.conversations.authenticate(tokens.conversation, tokens.a) == "a"
    store.clock.now += 1_000_000
    with pytest.raises(AccessDenied, match="expired"):
        bridge.conversations.authenticate(tokens.conversation, tokens.a)


def test_whoever_keeps_a_token_can_renew_it_and_nobody_can_renew_a_revoked_one(
    store: Store,
) -> None:
    bridge = store.open(token_lifetime_s=1000.0)
    tokens = bridge.conversations.create("asker", "shard")

    def expiry() -> str:
        ((expires,),) = store.foreign("SELECT expires_at FROM conversations")
        return str(expires)

    made = expiry()
    store.clock.now += 400_000
    assert bridge.conversations.renew_token(tokens.conversation, tokens.a)
    assert expiry() == made, "nothing is written while more than half of it is left"
    store.clock.now += 200_000
    assert not bridge.conversations.renew_token(tokens.conversation, "0" * 64)
    assert expiry() == made
    assert bridge.conversations.renew_token(tokens.conversation, tokens.a)
    assert expiry() > made
    store.clock.now += 31 * DAY_MS
    assert bridge.conversations.renew_token(tokens.conversation, tokens.a)
    assert bridge.conversations.authenticate(tokens.conversation, tokens.a) == "a"
    bridge.conversations.revoke_token(tokens.conversation, "a")
    store.clock.now += 31 * DAY_MS
    assert not bridge.conversations.renew_token(tokens.conversation, tokens.a)
    with pytest.raises(AccessDenied, match="expired"):
        bridge.conversations.authenticate(tokens.conversation, tokens.b)
    with pytest.raises(NotFound):
        bridge.conversations.renew_token("conv_none", tokens.a)


@pytest.mark.parametrize(
    ("expires", "opens"),
    [
        (None, True),
        ("2999-01-01T00:00:00+02:00", True),
        ("2001-01-01 00:00:00", False),
        ("someday", False),
        ("unreadable", False),
    ],
)
def test_an_odd_expiry_never_opens_more_than_it_says(
    bridge: Bridge, store: Store, expires: str | None, opens: bool
) -> None:
    tokens = bridge.conversations.create("asker", "shard")
    written = store.unreadable if expires == "unreadable" else expires
    store.foreign("UPDATE conversations SET expires_at=?", written)
    if opens:
        assert bridge.conversations.authenticate(tokens.conversation, tokens.a) == "a"
    else:
        with pytest.raises(AccessDenied):
            bridge.conversations.authenticate(tokens.conversation, tokens.a)


def test_a_token_leads_to_its_conversation_and_a_foreign_one_does_not(
    bridge: Bridge, store: Store
) -> None:
    tokens = bridge.conversations.create("asker", "shard")
    assert (
        bridge.conversations.find_by_token(tokens.a)
        == bridge.conversations.find_by_token(tokens.b)
        == tokens.conversation
    )
    clear = "ab" * 32
    store.foreign("UPDATE conversations SET session_a_token=?", clear)
    stored = store.foreign("SELECT session_b_token FROM conversations")[0][0]
    for token in (clear, tokens.a, stored, "", "x", "é" * 64):
        assert bridge.conversations.find_by_token(token) is None
    assert bridge.conversations.authenticate(tokens.conversation, clear) == "a"
