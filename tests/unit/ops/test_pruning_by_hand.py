"""Whether the database is rewritten after what is old was removed."""

from contextlib import closing
from pathlib import Path

import apsw
import pytest

from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.home import disk_space
from autopoll.home.config import Config, ShardSection
from autopoll.home.home import Home
from autopoll.home.retention_settings import RetentionSection
from autopoll.ops import pruning_by_hand
from autopoll.ops.pruning_by_hand import PruneReport, prune

CONFIG = Config(shards={"main": ShardSection(backend="echo")})
KEPT = RetentionSection()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make_private()
    SqliteBridge(home.var / "bridge.db", BridgeLimits(), create=True).close()
    return home


def leave_free(home: Home, count: int, *, kept: int = 0) -> None:
    """Have so many bytes of the file hold nothing, and so many be in use."""
    with closing(apsw.Connection(str(home.var / "bridge.db"))) as db:
        add = "INSERT INTO messages(message) VALUES(zeroblob(?)) RETURNING id"
        [(number,)] = db.execute(add, (count,)).fetchall()
        db.execute(add, (kept,)).fetchall()
        db.execute("DELETE FROM messages WHERE id=?", (number,))


def pruned(home: Home) -> PruneReport:
    return prune(home, CONFIG, KEPT, lambda _: None)


def test_a_file_of_which_a_tenth_is_free_is_rewritten(home: Home) -> None:
    leave_free(home, 2_000_000, kept=10_000_000)
    report = pruned(home)
    assert report.freed_bytes > 1_900_000
    assert (report.free_bytes, report.problem) == (0, "")
    assert (home.var / "bridge.db").stat().st_size == report.database_bytes


@pytest.mark.parametrize(("free", "kept"), [(900_000, 0), (2_000_000, 30_000_000)])
def test_for_little_the_file_is_not_rewritten(home: Home, free: int, kept: int) -> None:
    leave_free(home, free, kept=kept)
    report = pruned(home)
    assert report.freed_bytes == 0
    assert report.free_bytes >= free * 0.9


def test_beside_a_running_home_only_a_small_one_is_rewritten(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning_by_hand, "holder_of", lambda path: 1)
    monkeypatch.setattr(pruning_by_hand, "_SHORT", 1_000_000)
    leave_free(home, 3_000_000, kept=2_000_000)
    report = pruned(home)
    assert (report.is_up, report.freed_bytes) == (True, 0)
    monkeypatch.setattr(pruning_by_hand, "_SHORT", 4_000_000)
    assert pruned(home).freed_bytes > 2_900_000


def test_without_room_it_is_left_as_it_is_and_the_report_says_so(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_free(home, 3_000_000)
    monkeypatch.setattr(disk_space, "LEAST", 1 << 62)
    report = pruned(home)
    assert report.freed_bytes == 0
    assert "no room to rewrite" in report.problem
