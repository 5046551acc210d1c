"""A database that is damaged in one place or another: found by looking, and said what it is."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from bridge_calls import ask

from autopoll.bridge.connect import open_bridge
from autopoll.bridge.records import BridgeLimits
from autopoll.errors import BridgeError
from autopoll.home.bridge_url import BridgeUrl

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with some content, all of it in the file."""
    path = tmp_path / "bridge.db"
    with closing(
        open_bridge(BridgeUrl(f"sqlite:///{path}"), tmp_path, BridgeLimits(), create=True)
    ) as bridge:
        conversation = bridge.conversations.create("one", "other").conversation
        bridge.conversations.serve(conversation, "b", "main")
        for number in range(200):
            ask(bridge, conversation, f"question {number} " + "x" * 500)
        bridge.deliveries.claim("owner", {"main": 10}, 60_000)
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("wal_checkpoint(TRUNCATE)")
    return path


def examine(path: Path, seconds: float = 5.0) -> bool:
    with closing(
        open_bridge(BridgeUrl(f"sqlite:///{path}"), path.parent, BridgeLimits(), read_only=True)
    ) as bridge:
        return bridge.examine(seconds)


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def sql(path: Path, statement: str) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.execute(statement)


def page_of(path: Path, name: str) -> int:
    with closing(apsw.Connection(str(path))) as db:
        query = "SELECT rootpage FROM sqlite_schema WHERE name=?"
        return int(db.execute(query, (name,)).fetchall()[0][0])


def head(path: Path) -> None:
    overwrite(path, 0, b"\xa5" * 100)


def all_pages(path: Path) -> None:
    overwrite(path, PAGE, b"\xa5" * (path.stat().st_size - PAGE))


def one_page(path: Path) -> None:
    """A leaf in the middle of the messages."""
    overwrite(path, path.stat().st_size // PAGE // 2 * PAGE, b"\xa5" * PAGE)


def an_index(path: Path) -> None:
    overwrite(path, (page_of(path, "m_unread") - 1) * PAGE, b"\xa5" * PAGE)


def schema(path: Path) -> None:
    overwrite(path, 100, b"\xa5" * (PAGE - 100))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // PAGE * PAGE)


def cut_in_a_page(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def no_table(path: Path) -> None:
    sql(path, "DROP TABLE routes")


def newer(path: Path) -> None:
    sql(path, "PRAGMA user_version=99")


def negative(path: Path) -> None:
    sql(path, "PRAGMA user_version=-1")


def log_is_none(path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"\xa5" * 3 * PAGE)


def notes(path: Path) -> None:
    path.write_bytes(b"these are my notes\n" * 500)


SPOILT: dict[Callable[[Path], None], str] = {
    head: "is not an SQLite database",
    notes: "is not an SQLite database",
    all_pages: "is damaged",
    one_page: "is damaged",
    an_index: "is damaged",
    schema: "is damaged",
    cut: "is damaged",
    cut_in_a_page: "is damaged",
    emptied: "is empty: what was in it is lost",
    no_table: "is damaged: it has no table routes",
    newer: "has the newer schema version 99",
    negative: "has the older schema version -1",
    log_is_none: "its log",
}


@pytest.mark.parametrize(
    ("spoil", "words"), SPOILT.items(), ids=lambda value: getattr(value, "__name__", None)
)
def test_a_damaged_database_is_found_and_left_as_it_is(
    path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    assert examine(path)
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(BridgeError, match=words) as caught:
        examine(path)
    assert str(path) in caught.value.what
    assert caught.value.mend
    assert path.read_bytes() == before


def test_a_database_too_large_for_the_time_is_not_called_whole(path: Path) -> None:
    assert not examine(path, seconds=-1.0)


def test_an_empty_log_and_a_fresh_one_are_no_damage(path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"")
    assert examine(path)
    Path(f"{path}-wal").write_bytes(bytes(PAGE))
    assert examine(path)
