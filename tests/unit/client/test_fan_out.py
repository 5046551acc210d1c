"""Asking several shards while something happens to the store."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.client.client import Client
from autopoll.client.fan_out import FanOut
from autopoll.client.poller_connection import PollerConnection
from autopoll.errors import BridgeError
from autopoll.home.config import load


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    home = prepared_home(tmp_path)
    config = load(home, {})
    with closing(connect(home, config)) as bridge:
        yield Client(home, config, bridge)


def test_a_store_that_is_replaced_meanwhile_ends_the_wait(client: Client) -> None:
    database = client.home.var / "bridge.db"
    with PollerConnection(client.home) as connection:
        fan_out = FanOut(client, connection)
        fan_out.ask("how?", "main", None)
        shutil.copy(database, database.with_name("another"))
        database.with_name("another").replace(database)
        with pytest.raises(BridgeError, match=r"bridge\.db was replaced"):
            list(fan_out.outcomes(60, lambda state: None))
