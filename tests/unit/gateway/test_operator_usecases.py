"""Whether a question would be answered, as monitors ask without a token."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.client.client import Client
from autopoll.errors import BridgeFull, Down
from autopoll.gateway.operator_usecases import require_ready
from autopoll.home import disk_space
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.process.heartbeat import ProcessState
from autopoll.process.heartbeat_writer import Heart


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    home = prepared_home(tmp_path)
    config = load(home, {})
    with closing(connect(home, config)) as bridge:
        yield Client(home, config, bridge)


def live(stack: ExitStack, home: Home, *names: str) -> None:
    for name in names:
        stack.enter_context(Heart.open(home.beats, name, name)).state = ProcessState.IDLE


def test_a_home_is_ready_with_a_poller_and_a_worker_of_each_shard(client: Client) -> None:
    with ExitStack() as stack:
        live(stack, client.home, "poller")
        with pytest.raises(Down, match="not every shard"):
            require_ready(client)
        live(stack, client.home, "worker")
        require_ready(client)


def test_a_home_without_room_on_its_disk_is_not_ready_and_no_stranger_learns_which(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        live(stack, client.home, "poller", "worker")
        monkeypatch.setattr(disk_space, "LEAST", 2**62)
        with pytest.raises(BridgeFull) as refused:
            require_ready(client)
    assert str(client.home.root) not in str(refused.value)
