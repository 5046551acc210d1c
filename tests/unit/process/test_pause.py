"""How long a shard is paused, what lets it go on, and what is kept of it."""

from pathlib import Path

import msgspec
import pytest

from autopoll.home.home import Home
from autopoll.process import incident_log, pause
from autopoll.process.pause import Pauses, span_ms
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

    monkeypatch.setattr(pause, "wall_ms", lambda: Clock.now)
    return Clock


def no(cause: str, given_ms: int | None = None, message: str = "come back later") -> Failure:
    return Failure(kind="unavailable", message=message, cause=cause, retry_after_ms=given_ms)


@pytest.mark.parametrize(
    ("cause", "given_ms", "spans"),
    [
        ("quota", None, [1, 2, 4, 8, 15, 15, 15]),
        ("overloaded", None, [1, 2, 4, 8, 15, 15]),
        ("credentials", None, [5, 5, 5, 5]),
        ("credentials", 1000, [5, 5]),
        ("quota", 3 * 60 * MINUTE, [180, 180, 180]),
        ("quota", 2 * MINUTE, [2] * 7 + [128 / 60, 256 / 60]),
        ("quota", 10**18, [31 * 24 * 60] * 2),
        ("quota", 0, [1 / 60, 2 / 60, 4 / 60]),
    ],
)
def test_a_pause_lasts_as_long_as_given_or_else_ever_longer(cause, given_ms, spans) -> None:
    found = [span_ms(cause, given_ms, times) / MINUTE for times in range(1, len(spans) + 1)]
    assert found == pytest.approx(spans)
    assert span_ms(cause, None, 10**6) <= 15 * MINUTE


def test_a_paused_shard_is_given_nothing_then_one_at_a_time_and_then_all(home, clock) -> None:
    kept = Pauses(home, ["main", "other"])
    assert kept.room("main", 4, 0) == 4
    kept.refused("main", no("quota", 10_000))
    assert (kept.room("main", 4, 0), kept.room("other", 4, 3)) == (0, 4)
    clock.now += 9_999
    assert kept.room("main", 4, 0) == 0
    clock.now += 1
    assert (kept.room("main", 4, 1), kept.room("main", 4, 0), kept.room("main", 0, 0)) == (0, 1, 0)
    kept.answered("main")
    assert kept.room("main", 4, 4) == 4
    assert not (home.pauses / "main").exists()


def test_what_was_on_its_way_when_the_pause_began_neither_ends_nor_prolongs_it(home, clock) -> None:
    kept = Pauses(home, ["main"])
    kept.refused("main", no("quota", 10_000))
    kept.refused("main", no("quota", 99_000))
    kept.answered("main")
    assert kept.room("main", 4, 0) == 0
    clock.now += 10_000
    assert kept.room("main", 4, 0) == 1


def test_a_failed_trial_doubles_the_pause_and_is_the_same_incident(home, clock) -> None:
    kept = Pauses(home, ["main"])
    for minutes in (1, 2, 4):
        kept.refused("main", no("overloaded"))
        clock.now += minutes * MINUTE - 1
        assert kept.room("main", 1, 0) == 0
        clock.now += 1
        assert kept.room("main", 1, 0) == 1
    assert len(incident_log.read(home.incidents)) == 1
    kept.refused("main", no("credentials"))
    one, two = incident_log.read(home.incidents)
    assert (one.verdict, one.process, one.action) == ("overloaded", "shard main", "paused")
    assert one.recovered_ms is not None
    assert (two.verdict, two.recovered_ms) == ("credentials", None)


def test_a_pause_is_taken_up_by_the_next_poller_and_by_whoever_looks(home, clock) -> None:
    Pauses(home, ["main"]).refused("main", no("quota", 10_000, "no more\n  tokens"))
    seen = pause.read(home, "main")
    assert seen and seen.words == "quota until 2027-01-15T08:00:10Z: no more tokens"
    after = Pauses(home, ["main", "other"])
    assert (after.room("main", 2, 0), after.room("other", 2, 0)) == (0, 2)
    clock.now += 10_000
    assert pause.read(home, "main") is None
    assert after.room("main", 2, 0) == 1
    after.refused("main", no("quota"))
    clock.now += 2 * MINUTE - 1
    assert after.room("main", 2, 0) == 0, "it is the second one in a row"


def test_a_removed_file_and_a_clock_set_back_end_the_pause(home, clock) -> None:
    kept = Pauses(home, ["main"])
    kept.refused("main", no("credentials"))
    kept.look()
    assert kept.room("main", 2, 0) == 0
    pause.remove(home, "main")
    pause.remove(home, "main")
    kept.look()
    assert kept.room("main", 2, 0) == 1
    kept.refused("main", no("credentials"))
    clock.now -= 3_600_000
    assert kept.room("main", 2, 0) == 1
    assert pause.read(home, "main") is None
    clock.now = 0  # far before the incident
    kept.answered("main")
    assert [each.recovered_ms for each in incident_log.read(home.incidents)] == [0]


def test_a_pause_that_cannot_be_kept_holds_all_the_same(home, clock) -> None:
    home.pauses.rmdir()
    kept = Pauses(home, ["main"])
    kept.refused("main", no("quota"))
    kept.look()
    assert kept.room("main", 2, 0) == 0


@pytest.mark.parametrize(
    "garbage", [b"", b"\0", b"[" * 100_000, b"{}", b'{"cause":"mood","text":"","since":1}']
)
def test_a_pause_that_cannot_be_read_is_none(home, garbage) -> None:
    (home.pauses / "main").write_bytes(garbage)
    assert pause.read(home, "main") is None
    assert Pauses(home, ["main"]).room("main", 2, 0) == 2


def test_no_file_can_pause_for_more_than_a_month(home, clock) -> None:
    Pauses(home, ["main"]).refused("main", no("quota"))
    kept = msgspec.json.decode((home.pauses / "main").read_bytes())
    for since, until in ((clock.now, 2**62), (2**62, 2**63 - 1), (-(2**62), 2**62)):
        (home.pauses / "main").write_bytes(
            msgspec.json.encode({**kept, "since": since, "until": until})
        )
        seen = pause.read(home, "main")
        assert seen is None or seen.left_s <= 31 * 86400


def test_secrets_in_what_the_service_says_are_not_shown(home) -> None:
    key = "sk-ant-api03-" + "abcdefghij" * 4
    Pauses(home, ["main"]).refused("main", no("credentials", None, f"the key {key} is refused"))
    assert key not in (home.pauses / "main").read_text() + home.incidents.read_text()
