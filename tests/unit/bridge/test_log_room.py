"""Room in the log is made beforehand, and nothing hangs on it."""

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from answerers import take_over
from bridge_calls import ask

from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sqlite import SqliteBridge, log_room
from autopoll.bridge.sqlite.connection import WAL_LIMIT


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[SqliteBridge]:
    with closing(SqliteBridge(tmp_path / "bridge.db", BridgeLimits(), create=True)) as bridge:
        yield bridge


def log_size(folder: Path) -> int:
    return (folder / "bridge.db-wal").stat().st_size


def test_an_answerer_finds_the_room_made_and_what_stood_in_the_log_stays(
    bridge: SqliteBridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_room, "_LONGEST_S", 60.0)
    tokens = bridge.conversations.create("a", "b")
    assert log_size(tmp_path) < WAL_LIMIT
    take_over(bridge)
    assert log_size(tmp_path) == WAL_LIMIT
    [number] = ask(bridge, tokens.conversation, "after it")
    assert log_size(tmp_path) == WAL_LIMIT
    with closing(sqlite3.connect(tmp_path / "bridge.db")) as foreign:
        assert foreign.execute("SELECT id, message FROM messages").fetchall() == [
            (number, "after it")
        ]


def test_a_log_with_room_is_read_by_whoever_comes_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "bridge.db"
    code = (
        "import os, sys; from pathlib import Path\n"
        "from autopoll.bridge.records import Answerer, BridgeLimits\n"
        "from autopoll.bridge.sqlite import SqliteBridge, log_room\n"
        "from autopoll.client.new_arrivals import message_arrival\n"
        "log_room._LONGEST_S = 60.0\n"
        "bridge = SqliteBridge(Path(sys.argv[1]), BridgeLimits(), create=True)\n"
        "me = Answerer(owner='me', home='0', host='', folder='', version='', shards=[])\n"
        "bridge.deliveries.take_over(me, 60_000)\n"
        "tokens = bridge.conversations.create('a', 'b')\n"
        "asked = message_arrival('kept', None, tokens.conversation, 'a')\n"
        "bridge.messages.store([asked])\n"
        "os._exit(9)\n"  # as kill -9 does: nothing is closed
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert log_size(tmp_path) == WAL_LIMIT
    with closing(sqlite3.connect(path)) as foreign:
        assert foreign.execute("SELECT message FROM messages").fetchall() == [("kept",)]


def test_a_disk_with_little_room_is_left_alone(
    bridge: SqliteBridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_room, "_FREE", 10**9)
    take_over(bridge)
    assert log_size(tmp_path) < WAL_LIMIT


def test_a_disk_that_fills_meanwhile_gets_its_room_back(
    bridge: SqliteBridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite

    def pwrite(handle: int, data: bytes, start: int) -> int:
        if start > WAL_LIMIT // 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data, start)

    monkeypatch.setattr("autopoll.bridge.sqlite.log_room.os.pwrite", pwrite)
    take_over(bridge)
    assert log_size(tmp_path) < WAL_LIMIT
    tokens = bridge.conversations.create("a", "b")
    assert ask(bridge, tokens.conversation, "stored all the same")


def test_a_log_that_somebody_removes_ends_no_start(bridge: SqliteBridge, tmp_path: Path) -> None:
    (tmp_path / "bridge.db-wal").unlink()
    assert take_over(bridge) == 0


def test_a_slow_disk_holds_up_no_start(
    bridge: SqliteBridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_room, "_LONGEST_S", 0.0)
    take_over(bridge)
    assert log_size(tmp_path) < WAL_LIMIT


def test_others_write_while_the_disk_takes_the_room(
    bridge: SqliteBridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autopoll.bridge.sqlite.busy_handler.BUSY_S", 0.0)
    made: list[str] = []

    def slow(_handle: int) -> None:
        with closing(SqliteBridge(tmp_path / "bridge.db", BridgeLimits())) as other:
            made.append(other.conversations.create("a", "b").conversation)

    monkeypatch.setattr("autopoll.bridge.sqlite.log_room.os.fdatasync", slow)
    take_over(bridge)
    assert len(made) > 1, "in pieces"
    assert {each.id for each in bridge.conversations.all()} == set(made)
