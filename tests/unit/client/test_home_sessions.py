"""The home's own conversations with shards of other homes; a file stands for the shared bridge."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from answerers import take_over
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.client.client import Client
from autopoll.errors import BridgeUnavailable
from autopoll.home import credentials
from autopoll.home.bridge_url import BridgeUrl
from autopoll.home.config import Config, load
from autopoll.home.home import Home
from autopoll.ops.shards.remove import unserve


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return prepared_home(tmp_path)


@pytest.fixture
def bridge(home: Home) -> Iterator[Bridge]:
    with closing(connect(home, load(home, {}))) as bridge:
        take_over(bridge, home="a" * 32, shards=["far"])
        yield bridge


@pytest.fixture
def config(home: Home) -> Config:
    config = load(home, {})
    server = msgspec.structs.replace(config.bridge, url=BridgeUrl("postgresql://db"))
    return msgspec.structs.replace(config, bridge=server)


def fail(*_: object) -> None:
    raise BridgeUnavailable("the server does not answer", "Start it.")


def test_a_shard_that_another_home_has_removed_and_added_is_served_again_when_it_is_asked(
    home: Home, config: Config, bridge: Bridge
) -> None:
    client = Client(home, config, bridge)
    first = client.ask(["one"], "far").ids
    conversation = credentials.read(home).shards["far"]
    unserve(bridge, "far")
    second = client.ask(["two"], "far").ids
    assert credentials.read(home).shards["far"] == conversation
    claimed = bridge.deliveries.claim("me", {"far": 9}, 60_000)
    assert [each.message_id for each in claimed] == [*first, *second]


def test_what_the_owner_lets_another_shard_serve_stays_so(
    home: Home, config: Config, bridge: Bridge
) -> None:
    client = Client(home, config, bridge)
    conversation = client.sessions.with_shard("far", config)
    bridge.conversations.serve(conversation, "b", "main")
    client.sessions.with_shard("far", config)
    assert bridge.conversations.shard_of(conversation, "b") == "main"


def test_tokens_are_kept_where_the_server_goes_away_before_the_conversation_is_served(
    home: Home, config: Config, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(home, config, bridge)
    with monkeypatch.context() as patch, pytest.raises(BridgeUnavailable):
        patch.setattr(bridge.conversations, "serve", fail)
        client.sessions.with_shard("far", config)
    kept = credentials.read(home).shards["far"]
    assert client.sessions.with_shard("far", config) == kept
    assert bridge.conversations.shard_of(kept, "b") == "far"


@pytest.mark.parametrize("step", ["create", "serve"])
def test_a_conversation_that_is_made_with_tokens_nobody_knows_is_named_by_the_error(
    home: Home, config: Config, bridge: Bridge, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(bridge.conversations, step, fail)
    with pytest.raises(BridgeUnavailable, match="with tokens nobody knows") as failed:
        Client(home, config, bridge).converse("me", "it", "main")
    assert "autopoll conversations list" in failed.value.mend
