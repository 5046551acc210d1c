"""How the poller keeps pauses: what lets a shard go on, and what the next poller finds."""

from pathlib import Path

import pytest

from autopoll.home.home import Home
from autopoll.poller.pauses import Pauses
from autopoll.process import incident_log, shard_pause
from autopoll.request import Failure

MINUTE = 60_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.make_private()
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """A clock on the wall that only moves when it is told to."""

    class Clock:
        now = 1_800_000_000_000

    monkeypatch.setattr(shard_pause, "wall_ms", lambda: Clock.now)
    return Clock


def room(pauses: Pauses, shard: str, free: int, in_flight: int) -> int:
    """Return how many questions the shard may be given, of as many as its workers have room for."""
    left = {"main": 9, "other": 9, shard: free}
    pauses.limit(left, lambda each: each == shard and in_flight > 0)
    return left[shard]


def no(cause: str, given_ms: int | None = None, message: str = "come back later") -> Failure:
    return Failure(kind="unavailable", message=message, cause=cause, retry_after_ms=given_ms)


def test_a_paused_shard_is_given_nothing_then_one_at_a_time_and_then_all(home, clock) -> None:
    kept = Pauses(home, ["main", "other"])
    assert room(kept, "main", 4, 0) == 4
    kept.refused("main", no("quota", 10_000))
    assert (room(kept, "main", 4, 0), room(kept, "other", 4, 3)) == (0, 4)
    clock.now += 9_999
    assert room(kept, "main", 4, 0) == 0
    clock.now += 1
    assert (room(kept, "main", 4, 1), room(kept, "main", 4, 0), room(kept, "main", 0, 0)) == (
        0,
        1,
        0,
    )
    kept.answered("main")
    assert room(kept, "main", 4, 4) == 4
    assert not (home.pauses / "main").exists()


def test_what_was_on_its_way_when_the_pause_began_neither_ends_nor_prolongs_it(home, clock) -> None:
    kept = Pauses(home, ["main"])
    kept.refused("main", no("quota", 10_000))
    kept.refused("main", no("quota", 99_000))
    kept.answered("main")
    assert room(kept, "main", 4, 0) == 0
    clock.now += 10_000
    assert room(kept, "main", 4, 0) == 1


def test_a_failed_trial_doubles_the_pause_and_is_the_same_incident(home, clock) -> None:
    kept = Pauses(home, ["main"])
    for minutes in (1, 2, 4):
        kept.refused("main", no("overloaded"))
        clock.now += minutes * MINUTE - 1
        assert room(kept, "main", 1, 0) == 0
        clock.now += 1
        assert room(kept, "main", 1, 0) == 1
    assert len(incident_log.read(home.incidents)) == 1
    kept.refused("main", no("credentials"))
    one, two = incident_log.read(home.incidents)
    assert (one.verdict, one.process, one.action) == ("overloaded", "shard main", "paused")
    assert one.recovered_ms is not None
    assert (two.verdict, two.recovered_ms) == ("credentials", None)


def test_a_pause_is_taken_up_by_the_next_poller_and_by_whoever_looks(home, clock) -> None:
    Pauses(home, ["main"]).refused("main", no("quota", 10_000, "no more\n  tokens"))
    seen = shard_pause.read(home, "main")
    assert seen and seen.words == "quota until 2027-01-15T08:00:10Z: no more tokens"
    after = Pauses(home, ["main", "other"])
    assert (room(after, "main", 2, 0), room(after, "other", 2, 0)) == (0, 2)
    clock.now += 10_000
    assert shard_pause.read(home, "main") is None
    assert room(after, "main", 2, 0) == 1
    after.refused("main", no("quota"))
    clock.now += 2 * MINUTE - 1
    assert room(after, "main", 2, 0) == 0, "it is the second one in a row"


def test_a_pause_that_cannot_be_read_leaves_the_shard_its_room(home) -> None:
    (home.pauses / "main").write_bytes(b'{"cause":"mood","text":"","since":1}')
    assert room(Pauses(home, ["main"]), "main", 2, 0) == 2


def test_a_removed_file_and_a_clock_set_back_end_the_pause(home, clock) -> None:
    kept = Pauses(home, ["main"])
    kept.refused("main", no("credentials"))
    kept.check()
    assert room(kept, "main", 2, 0) == 0
    shard_pause.remove(home, "main")
    shard_pause.remove(home, "main")
    kept.check()
    assert room(kept, "main", 2, 0) == 1
    kept.refused("main", no("credentials"))
    clock.now -= 3_600_000
    assert room(kept, "main", 2, 0) == 1
    assert shard_pause.read(home, "main") is None
    clock.now = 0  # far before the incident
    kept.answered("main")
    assert [each.recovered_ms for each in incident_log.read(home.incidents)] == [0]


def test_a_pause_that_cannot_be_kept_holds_all_the_same(home, clock) -> None:
    home.pauses.rmdir()
    kept = Pauses(home, ["main"])
    kept.refused("main", no("quota"))
    kept.check()
    assert room(kept, "main", 2, 0) == 0


def test_a_late_refusal_from_a_shard_that_was_removed_pauses_nothing(home, clock) -> None:
    kept = Pauses(home, ["main", "other"])
    kept.update(["main"])
    kept.refused("other", no("quota", 10_000))
    kept.overspent("other", "10 of 5 tokens used today", clock.now + 10_000)
    assert list(home.pauses.iterdir()) == []
    assert incident_log.read(home.incidents) == []
    clock.now += 10_000
    left = {"main": 4}
    kept.limit(left, lambda _shard: False)
    assert left == {"main": 4}
