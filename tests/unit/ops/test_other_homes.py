"""What a home does with a shard that another home on its bridge serves too."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from answerers import take_over
from bridge_calls import send
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.client.other_homes import others_serving
from autopoll.home import files
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.ops.shards.remove import QuestionsWaiting, ServedElsewhere, remove

CONFIG = '[shards.main]\nbackend = "echo"\n[shards.logs]\nbackend = "echo"\n'
CONF = """\
[unix_http_server]
file = %(here)s/../s.sock
[program:worker]
command = autopoll worker --home . --shard main --instance 1
"""
MINE = "b" * 32


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = prepared_home(tmp_path, CONFIG)
    made.supervisord_conf.write_text(CONF)
    files.put(made.identity, MINE.encode())
    return made


@pytest.fixture
def bridge(home: Home) -> Iterator[Bridge]:
    with closing(connect(home, load(home, {}))) as bridge:
        yield bridge


def ask(bridge: Bridge) -> int:
    [conversation] = [
        each for (each, _), shard in bridge.conversations.routes().items() if shard == "logs"
    ]
    [number] = send(bridge, conversation, "a", "why?")
    bridge.deliveries.claim("nobody", {}, 60_000)  # enrols it
    return number


def test_a_shard_that_another_home_serves_is_left_to_it(home: Home, bridge: Bridge) -> None:
    take_over(bridge, home="a" * 32, shards=["logs"], host="elsewhere")
    number, routes = ask(bridge), bridge.conversations.routes()
    done = remove(home, "logs", lambda _: None, force=True)
    assert (done.elsewhere, done.unserved, done.given_up) == (["elsewhere"], [], 0)
    assert "logs" not in load(home, {}).shards
    assert bridge.conversations.routes() == routes
    assert bridge.messages.query_state(number).state == "ready"


def test_a_shard_of_a_home_that_is_away_is_removed_by_force_only(
    home: Home, bridge: Bridge
) -> None:
    take_over(bridge, home="a" * 32, shards=["logs"], host="elsewhere")
    bridge.deliveries.leave("me")
    number, routes = ask(bridge), bridge.conversations.routes()
    with pytest.raises(ServedElsewhere, match="also served on elsewhere, away for now"):
        remove(home, "logs", lambda _: None, force=False)
    assert "logs" in load(home, {}).shards
    assert bridge.conversations.routes() == routes
    done = remove(home, "logs", lambda _: None, force=True)
    assert (done.elsewhere, len(done.unserved), done.given_up) == ([], 1, 1)
    assert bridge.messages.query_state(number).state == "dead"


@pytest.mark.parametrize("other", ["none", "of another shard", "we"])
def test_a_shard_that_nobody_else_serves_is_given_up_whole(
    home: Home, bridge: Bridge, other: str
) -> None:
    if other != "none":
        shards = ["main"] if other == "of another shard" else ["logs"]
        take_over(bridge, home=MINE if other == "we" else "a" * 32, shards=shards)
    assert others_serving(home, bridge, "logs") == []
    number = ask(bridge)
    with pytest.raises(QuestionsWaiting):
        remove(home, "logs", lambda _: None, force=False)
    done = remove(home, "logs", lambda _: None, force=True)
    assert (done.elsewhere, len(done.unserved), done.given_up) == ([], 1, 1)
    assert bridge.messages.query_state(number).state == "dead"
