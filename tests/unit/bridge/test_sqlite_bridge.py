"""The engine as a whole: what is left of it when it cannot be made, and how it reads the clock."""

import time
from contextlib import closing
from itertools import count
from pathlib import Path

import apsw
import pytest
from answerers import take_over
from bridge_calls import OWN, ask, claim, talk
from bridge_stores import SqliteStore

from autopoll.bridge import sqlite
from autopoll.bridge.records import Arrival, BridgeLimits, IdempotencyKey
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.bridge.sqlite.connection import SqliteDatabase
from autopoll.errors import AlreadyRunning, BridgeError


def test_the_file_is_closed_when_a_part_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def refuse(db: SqliteDatabase) -> None:
        opened.append(db)
        raise BridgeError("no costs")

    monkeypatch.setattr(sqlite, "Costs", refuse)
    with pytest.raises(BridgeError, match="no costs"):
        SqliteBridge(tmp_path / "bridge.db", BridgeLimits(), create=True)
    with pytest.raises(BridgeError, match="was closed"):
        opened[0].rows("SELECT 1")


def test_a_key_is_kept_from_the_moment_it_was_looked_for(tmp_path: Path) -> None:
    path, ticks = tmp_path / "bridge.db", count(1_800_000_000_000)
    bridge = SqliteBridge(path, BridgeLimits(), create=True, clock=lambda: next(ticks))
    with closing(bridge):
        talk = bridge.conversations.create("asker", "shard").conversation
        before = next(ticks)
        key = IdempotencyKey(scope="s", name="k", digest=b"d")
        asked = Arrival(
            query_id="q-12345678",
            conversation=talk,
            session="a",
            text="q-12345678: why?",
            key=key,
            sent_at=time.monotonic(),
        )
        bridge.messages.store([asked])
    with closing(apsw.Connection(str(path))) as db:
        assert db.execute("SELECT made_at FROM keys").fetchall() == [(before + 1,)]


def test_the_next_answerer_frees_what_another_home_held_as_one_at_a_time_is_alive(
    tmp_path: Path,
) -> None:
    store = SqliteStore(tmp_path)
    one = store.open()
    take_over(one, "one", home="a" * 32)
    (mine,) = ask(one, talk(one), "1", metadata=OWN)
    (held,) = claim(one, owner="one")
    store.close()  # there is one answerer, so the one before it is dead, of whatever home it was
    two = store.open()
    assert take_over(two, "two", home="b" * 32) == 1
    (again,) = claim(two, owner="two")
    assert (again.message_id, again.attempt, again.fence) == (mine, 1, held.fence + 1)
    store.close()


def test_an_own_commit_is_no_change_as_a_file_tells_whose_it_was(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    one, two = store.open(), store.open()
    one.changed()
    conversation = talk(one)
    assert not one.changed()
    ask(two, conversation, "1")
    assert one.changed()
    assert not one.changed()
    store.close()


def test_only_one_bridge_is_the_answerer_until_it_closes(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    first, second = store.open(), store.open()
    take_over(first, "one")
    with pytest.raises(AlreadyRunning):
        take_over(second, "two")
    first.close()
    assert take_over(second, "two") == 0
    store.close()
