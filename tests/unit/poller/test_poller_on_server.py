"""A poller whose bridge is on a server: other homes may live on it, and it may go away."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.errors import BridgeUnavailable
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.poller.poller import Poller
from autopoll.process.heartbeat_writer import Heart

CONFIG = """
[bridge]
url = "postgresql://db.example.org/agents"
[delivery]
visibility_timeout = "{lease}s"
[shards.main]
backend = "echo"
"""


class Calls:
    """The DeliveryStore of a bridge, which notes what is called, and when."""

    def __init__(self, bridge: SqliteBridge) -> None:
        self._deliveries = bridge.deliveries
        self.names: list[str] = []
        self.at: list[float] = []

    def __getattr__(self, name: str) -> Any:
        self.names.append(name)
        self.at.append(time.monotonic())
        return getattr(self._deliveries, name)


class Bridge:
    """A bridge of which the calls on deliveries are noted."""

    def __init__(self, bridge: SqliteBridge) -> None:
        self._bridge = bridge
        self.deliveries = Calls(bridge)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bridge, name)


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Bridge]:
    with closing(SqliteBridge(tmp_path / "bridge.db", BridgeLimits(), create=True)) as bridge:
        yield Bridge(bridge)


async def run(folder: Path, bridge: Any, lease: int, over: Callable[[], bool]) -> None:
    """Run a poller with leases of so many seconds until something holds."""
    home = Home(folder)
    home.make_private()
    home.config.write_text(CONFIG.format(lease=lease))
    with Heart.open(home.beats, "poller", "poller") as heart:
        poller = Poller(home, load(home, {}), bridge, heart)
        running = asyncio.create_task(poller.run())
        async with asyncio.timeout(20):
            while not over():
                await asyncio.sleep(0.01)
        poller.stop()
        await running


def test_a_poller_that_starts_on_a_server_reaps_nothing_for_the_length_of_a_lease(
    tmp_path: Path, bridge: Bridge
) -> None:
    names, at = bridge.deliveries.names, bridge.deliveries.at
    begun = time.monotonic()
    asyncio.run(run(tmp_path, bridge, 1, lambda: "reap" in names))
    assert at[names.index("reap")] - begun >= 1
    assert names.index("renew") < names.index("reap")


def test_a_poller_whose_server_was_away_for_a_look_of_whatever_kind_renews_first(
    tmp_path: Path, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = bridge.deliveries.names

    def away(_self: object, _ended: object) -> None:
        if "commit_turn" not in names:
            return  # the turn in which it starts renews in any case
        monkeypatch.undo()
        names.append("away")
        raise BridgeUnavailable("the server cannot be reached")

    monkeypatch.setattr("autopoll.poller.daily_budgets.DailyBudgets.check", away)
    asyncio.run(run(tmp_path, bridge, 60, lambda: "commit_turn" in after(names, "away")))
    assert after(names, "away")[0] == "renew"


def after(names: list[str], name: str) -> list[str]:
    """Return what stands behind the first of a name, if it is there."""
    return names[names.index(name) + 1 :] if name in names else []
