"""The copies that are kept before migrations."""

import shutil
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import apsw
import legacy
import pytest

from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sqlite import SqliteBridge, migration_backup, schema
from autopoll.errors import BridgeError
from autopoll.home import disk_space

EARLIER = Path(__file__).parents[2] / "data" / "earlier_home.tar.gz"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    shutil.unpack_archive(EARLIER, tmp_path / "home")
    return tmp_path / "home" / "var" / "bridge.db"


def open_bridge(file: Path, backups: Path) -> None:
    SqliteBridge(file, BridgeLimits(), backups=backups).close()


def version(file: Path) -> int:
    with closing(apsw.Connection(str(file))) as db:
        return int(db.pragma("user_version"))


def test_the_last_three_are_kept_and_none_is_made_without_a_migration(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backups = tmp_path / "backups"
    old = file.read_bytes()
    for number in range(5):
        monkeypatch.setattr(migration_backup, "utc_now", lambda number=number: _at(number))
        for each in file.parent.glob("bridge.db-*"):
            each.unlink()
        file.write_bytes(old)
        open_bridge(file, backups)
        open_bridge(file, backups)
    assert sorted(each.name[-6:-3] for each in backups.iterdir()) == ["02Z", "03Z", "04Z"]


def _at(second: int) -> datetime:
    return datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)


def test_without_room_for_the_copy_nothing_is_migrated_and_it_says_so(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = version(file)
    monkeypatch.setattr(disk_space, "LEAST", 1 << 62)
    with pytest.raises(BridgeError) as refused:
        open_bridge(file, tmp_path / "backups")
    assert f"older schema {before} and is not migrated" in refused.value.what
    assert "no room" in refused.value.what
    assert str(tmp_path / "backups") in refused.value.mend
    assert version(file) == before
    assert list((tmp_path / "backups").iterdir()) == []
    monkeypatch.undo()
    open_bridge(file, tmp_path / "backups")
    assert version(file) == schema.KNOWN


def test_a_database_of_another_program_is_copied_before_tables_are_added_to_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "theirs.db"
    with closing(apsw.Connection(str(file))) as db:
        db.execute(legacy.TABLES)
    open_bridge(file, tmp_path / "backups")
    [copy] = (tmp_path / "backups").iterdir()
    assert copy.name.startswith("theirs-schema-0-")
    with closing(apsw.Connection(str(copy))) as db:
        assert not db.table_exists(None, "deliveries")
        assert db.table_exists(None, "messages")


def test_a_new_database_has_nothing_to_be_copied(tmp_path: Path) -> None:
    SqliteBridge(
        tmp_path / "bridge.db", BridgeLimits(), create=True, backups=tmp_path / "backups"
    ).close()
    assert not (tmp_path / "backups").exists()
