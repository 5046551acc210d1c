"""What keeps this home from answering ends no wait while another home answers for the shard."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from answerers import take_over
from bridge_calls import send
from prepared_home import ECHO, prepared_home

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.client import availability
from autopoll.client.availability import Blocked, Obstacle
from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.errors import BridgeBusy, BridgeError, BridgeUnavailable, TimedOut
from autopoll.home.config import load
from autopoll.home.home import Home

STOPPED = Obstacle(what="worker was stopped by hand", mend="Start it", lasting=True)


@pytest.fixture
def home(tmp_path: Path, database: str) -> Home:
    return prepared_home(tmp_path, f'[bridge]\nurl = "{database}"\n{ECHO}')


@pytest.fixture
def bridge(home: Home) -> Iterator[Bridge]:
    with closing(connect(home, load(home, {}))) as bridge:
        yield bridge


@pytest.fixture(autouse=True)
def stopped(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody listens, and the only worker is stopped."""
    monkeypatch.setattr(availability, "obstacle", lambda *_: STOPPED)
    monkeypatch.setattr("autopoll.client.outcome_wait.is_listening", lambda _: True)
    monkeypatch.setattr("autopoll.client.outcome_wait.NET_S", 0.05)
    yield


def wait(home: Home, bridge: Bridge) -> None:
    client = Client(home, load(home, {}), bridge)
    with PollerConnection(home) as connection:
        conversation, session = client.own_session("main")
        [number] = send(bridge, conversation, session, "why?")
        bridge.deliveries.claim("other", {}, 60_000)  # enrols it
        list(client.wait([number], connection, timeout=1.0))


def test_a_wait_goes_on_while_another_home_that_is_alive_answers_for_the_shard(
    home: Home, bridge: Bridge
) -> None:
    take_over(bridge, "other", home="a" * 32, shards=["main"])
    with pytest.raises(TimedOut):
        wait(home, bridge)
    bridge.deliveries.leave("other")
    with pytest.raises(Blocked, match="stopped by hand"):
        wait(home, bridge)


@pytest.mark.parametrize("error", [BridgeUnavailable, BridgeBusy])
def test_no_look_for_another_home_ends_a_wait_while_the_bridge_is_away(
    home: Home, bridge: Bridge, monkeypatch: pytest.MonkeyPatch, error: type[BridgeError]
) -> None:
    def away() -> None:
        raise error("away")

    take_over(bridge, "other", home="a" * 32, shards=["main"])
    held = Obstacle(what="poller is held: the bridge is away")
    monkeypatch.setattr(availability, "obstacle", lambda *_: held)
    monkeypatch.setattr(bridge.overview, "homes", away)
    with pytest.raises(TimedOut):
        wait(home, bridge)
