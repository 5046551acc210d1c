"""What a shard that could not be added leaves of the questions on a bridge that homes share."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from answerers import take_over
from bridge_calls import send
from prepared_home import ECHO, prepared_home

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.errors import ConfigError
from autopoll.home import credentials
from autopoll.home.config import Config, load
from autopoll.home.home import Home
from autopoll.ops.shards import add as adding
from autopoll.ops.shards.add import NotAdded, add
from autopoll.ops.shards.check import ShardCheck

PROGRAM = "[program:worker]\ncommand = autopoll worker --home . --shard main --instance 1\n"


def ask(bridge: Bridge, conversation: str) -> int:
    [number] = send(bridge, conversation, "a", "why?")
    bridge.deliveries.claim("nobody", {}, 60_000)  # enrols it
    return number


@pytest.mark.parametrize("is_away", [False, True])
def test_a_failed_addition_gives_up_its_own_question_and_none_that_another_home_may_answer(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch, is_away: bool
) -> None:
    home = prepared_home(tmp_path, f"{ECHO}[bridge]\nurl = {json.dumps(database)}\n")
    conf = home.supervisord_conf
    conf.write_text(conf.read_text() + PROGRAM)
    with closing(connect(home, load(home, {}))) as bridge:
        if is_away:
            take_over(bridge, home="a" * 32, shards=["new"])
            bridge.deliveries.leave("me")
        theirs = bridge.conversations.create("asker", "new").conversation
        bridge.conversations.serve(theirs, "b", "new")
        asked = [ask(bridge, theirs)]

        def asked_then_failed(home: Home, _: Config) -> None:
            monkeypatch.undo()
            [check] = checks
            check.asked = ask(bridge, credentials.read(home).shards["new"])
            asked.append(check.asked)
            raise ConfigError("the disk is full", "Make room.")

        checks: list[ShardCheck] = []
        monkeypatch.setattr(
            adding, "ShardCheck", lambda *args: checks.append(ShardCheck(*args)) or checks[0]
        )
        monkeypatch.setattr(adding, "write_programs", asked_then_failed)
        with pytest.raises(NotAdded, match="the disk is full; it was taken out again"):
            add(home, "new", {"backend": "echo"}, lambda _: None, keep=False)
        states = [bridge.messages.query_state(each).state for each in asked]
        assert states == ["ready", "ready" if is_away else "done"]
        assert bridge.conversations.shard_of(theirs, "b") == "new"
        ours = credentials.read(home).shards["new"]
        assert bridge.conversations.shard_of(ours, "b") == ("new" if is_away else None)
        claimed = bridge.deliveries.claim("them", {"new": 9}, 60_000)
        assert claimed[0].message_id == asked[0]
        assert claimed[0].fence == 1, "we have not claimed it"
