"""When the disk will be full, by the samples of the last week."""

from pathlib import Path

import msgspec
import pytest

from autopoll.clock import wall_ms
from autopoll.home import disk_samples, files
from autopoll.home.config import Config, ShardSection
from autopoll.home.disk_samples import EVERY_MS, DiskSample
from autopoll.home.home import Home
from autopoll.ops.disk_forecast import disk_forecast

CONFIG = Config(shards={"main": ShardSection(backend="echo")})
DAY_MS = 24 * EVERY_MS


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make_private()
    (home.var / "bridge.db").write_bytes(bytes(1000))
    return home


def keep(home: Home, *samples: DiskSample) -> None:
    files.put(home.disk_samples, msgspec.json.encode(list(samples)))


def earlier(home: Home, hours: int, more_free: int, bridge: int = 0) -> DiskSample:
    """Return a sample of so many hours ago, with so much more room than there is now."""
    free = disk_samples.take(home, CONFIG).free[str(home.var)]
    return DiskSample(
        at=wall_ms() - hours * EVERY_MS, free={str(home.var): free + more_free}, bridge=bridge
    )


def test_a_disk_that_loses_a_tenth_of_its_room_a_day_is_full_in_ten_days(home: Home) -> None:
    free = disk_samples.take(home, CONFIG).free[str(home.var)]
    tenth = free // 10
    keep(home, *(earlier(home, 24 * days, days * tenth) for days in range(6, 0, -1)))
    [found] = disk_forecast(home, CONFIG)
    assert found.folder == str(home.var)
    assert found.fills_by == pytest.approx(tenth, rel=0.05)
    assert found.full_in_days == pytest.approx(10, rel=0.05)
    assert found.seen_days == pytest.approx(6, abs=0.1)
    assert "full in 10 days" in found.words


def test_how_fast_the_bridge_grows_stands_beside_it(home: Home) -> None:
    keep(home, earlier(home, 48, 0, bridge=0))
    [found] = disk_forecast(home, CONFIG)
    assert found.bridge == 1000
    assert found.bridge_grows_by == pytest.approx(500, abs=5)


def test_nothing_is_said_in_the_first_hour_or_of_a_disk_that_gains_room(home: Home) -> None:
    [first] = disk_forecast(home, CONFIG)
    assert (first.fills_by, first.full_in_days) == (None, None)
    assert "known an hour after" in first.words
    keep(home, earlier(home, 24, -(1 << 30)))
    [gaining] = disk_forecast(home, CONFIG)
    assert gaining.fills_by is not None
    assert gaining.fills_by < 0
    assert gaining.full_in_days is None
    assert "does not fill up" in gaining.words


def test_a_sample_is_kept_once_an_hour_and_for_a_month(home: Home) -> None:
    keep(home, earlier(home, 31 * 24, 0), earlier(home, 29 * 24, 0), earlier(home, -5, 0))
    disk_samples.add_due(home, CONFIG)
    disk_samples.add_due(home, CONFIG)
    kept = disk_samples.read(home)
    assert len(kept) == 2, "the one of the future and the one of last month are gone"
    assert kept[-1].bridge == 1000
    assert home.disk_samples.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"at":"x"}]', b"\xff\x00"])
def test_a_garbled_file_of_samples_is_begun_again(home: Home, content: bytes) -> None:
    files.put(home.disk_samples, content)
    assert disk_samples.read(home) == []
    disk_samples.add_due(home, CONFIG)
    assert len(disk_samples.read(home)) == 1
