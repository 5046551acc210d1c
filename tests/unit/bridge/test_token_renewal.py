"""A home's own tokens, kept alive by its poller, by either clock."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.token_renewal import Renewal
from autopoll.home import credentials
from autopoll.home.config import load
from autopoll.home.home import Home

DAY_S = 86_400.0
LIFETIME_S = 30 * DAY_S
TRUE_NS, TRUE = time.time_ns, time.monotonic


class Clocks:
    """Both clocks, each moved by itself."""

    def __init__(self) -> None:
        self.wall = self.steady = 0.0


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr("time.time_ns", lambda: TRUE_NS() + round(made.wall * 1e9))
    monkeypatch.setattr(
        "autopoll.bridge.token_renewal.time.monotonic", lambda: TRUE() + made.steady
    )
    return made


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return prepared_home(tmp_path)


@pytest.fixture
def bridge(home: Home) -> Iterator[Bridge]:
    with closing(connect(home, load(home, {}))) as bridge:
        yield bridge


def expiry(home: Home, bridge: Bridge) -> str:
    found = bridge.conversations.get(credentials.read(home).shards["main"]).expires_at
    assert found
    return found


def test_a_home_at_rest_is_renewed_each_time_half_of_the_life_is_over(
    home: Home, bridge: Bridge, clocks: Clocks
) -> None:
    renewal = Renewal(home, bridge, LIFETIME_S)
    seen = {expiry(home, bridge)}
    for day in range(1, 91):
        clocks.wall = clocks.steady = day * DAY_S
        renewal.renew_due()
        seen.add(expiry(home, bridge))
    conversation = credentials.read(home).shards["main"]
    for session, token in credentials.read(home).tokens[conversation].items():
        assert bridge.conversations.authenticate(conversation, token) == session
    assert len(seen) == 1 + 6, "written no oftener than is needed"


@pytest.mark.parametrize("leap", [LIFETIME_S + DAY_S, 365 * DAY_S])
def test_a_leap_of_the_clock_on_the_wall_is_seen_at_the_next_look(
    home: Home, bridge: Bridge, clocks: Clocks, leap: float
) -> None:
    renewal = Renewal(home, bridge, LIFETIME_S)
    renewal.renew_due()
    before = expiry(home, bridge)
    clocks.wall = leap
    clocks.steady = 1.0
    renewal.renew_due()
    assert expiry(home, bridge) > before


def test_a_clock_set_back_neither_renews_for_ever_nor_never(
    home: Home, bridge: Bridge, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    true = type(bridge.conversations).renew_token

    def counted(bridge: Bridge, conversation: str, token: str) -> bool:
        looks.append(conversation)
        return true(bridge, conversation, token)  # type: ignore[arg-type]

    monkeypatch.setattr(type(bridge.conversations), "renew_token", counted)
    renewal = Renewal(home, bridge, LIFETIME_S)
    clocks.wall = -3600.0
    renewal.renew_due()
    for second in range(1, 3600):
        clocks.wall, clocks.steady = second - 7200.0, float(second)
        renewal.renew_due()
    assert len(looks) == 2, "one look, at both tokens"
    clocks.steady = 3601.0
    renewal.renew_due()
    assert len(looks) == 4


def test_credentials_that_cannot_be_read_keep_the_poller_from_nothing(
    home: Home, bridge: Bridge, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    renewal = Renewal(home, bridge, LIFETIME_S)
    home.credentials.write_bytes(b"\xff{")
    for hour in range(3):
        clocks.steady = 3601.0 * hour
        renewal.renew_due()
    assert caplog.text.count("garbled") == 1
    home.credentials.unlink()
    clocks.steady = 3601.0 * 3
    renewal.renew_due()


def test_a_conversation_that_is_gone_is_passed_over(
    home: Home, bridge: Bridge, clocks: Clocks
) -> None:
    with credentials.edit(home) as kept:
        kept.tokens = {"conv_gone": {"a": "0" * 64}, **kept.tokens}
    before = expiry(home, bridge)
    clocks.wall = LIFETIME_S + DAY_S
    Renewal(home, bridge, LIFETIME_S).renew_due()
    assert expiry(home, bridge) > before
