"""Processes that hold too much, or are in a state of their own, before a real watchdog."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from place import until
from watched_home import WatchedHome

from autopoll.process.heartbeat import ProcessState
from autopoll.process.proc_stat import all_stats, read_stat

pytestmark = pytest.mark.long

CONFIG = """
[shards.main]
backend = "echo"
max_memory = "64MB"
"""
DUMMIES = {
    "worker": "large",
    "modest": "large",
    "reaping": "forgets-a-child",
    "helpless": "forgets-a-child-for-good",
    "grandparent": "has-a-forgetful-child",
    "leaking": "leaks-descriptors",
    "headless": "headless",
    "headless-busy": "headless-busy",
    "blocked": "blocked",
    "blocked-busy": "blocked-busy",
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHome]:
    with WatchedHome(tmp_path_factory.mktemp("watched")) as watched:
        watched.home.config.write_text(CONFIG)
        watched.watch()
        watched.start_watched(**DUMMIES)
        yield watched


def ended_well(watched: WatchedHome, name: str) -> bool:
    beat = watched.beat(name)
    return beat is not None and beat.state is ProcessState.STOPPED and not watched.lives(name)


def drained(watched: WatchedHome, name: str, verdict: str) -> str:
    """Wait until a process has been asked to end and has, and return the evidence."""
    incident = watched.incident(name, verdict, 30)
    assert incident.action == "drained"
    until(lambda: ended_well(watched, name))
    assert [each.verdict for each in watched.incidents(name)] == [verdict]
    return incident.evidence


def configure(watched: WatchedHome, text: str) -> None:
    """Change the settings at once, so that nobody reads half of them."""
    new = watched.home.root / "new.toml"
    new.write_text(text)
    new.rename(watched.home.config)


def zombies_of(pid: int) -> list[int]:
    return [each.pid for each in all_stats() if each.zombie and each.parent == pid]


def test_what_uses_up_its_descriptors_is_drained_and_what_it_started_is_ended(
    watched: WatchedHome,
) -> None:
    until(lambda: len(watched.left("leaking")) == 4)  # itself, and three children
    assert "of 100 descriptors open" in drained(watched, "leaking", "leak")
    until(lambda: not watched.left("leaking"))


def test_what_outgrows_the_memory_of_its_shard_is_drained_and_others_are_not(
    watched: WatchedHome,
) -> None:
    assert "allowed are 64 MB" in drained(watched, "worker", "leak")
    assert watched.lives("modest")
    assert watched.incidents("modest") == []


def test_a_zombie_is_reaped_by_its_parent_when_it_is_asked_to(watched: WatchedHome) -> None:
    incident = watched.incident("reaping", "zombie-children", 30)
    assert incident.action == "told to reap"
    assert "(true), a child of" in incident.evidence
    until(lambda: watched.incidents("reaping")[0].recovered_ms)
    beat = watched.beat("reaping")
    assert beat and zombies_of(beat.pid) == []
    assert watched.lives("reaping")
    assert len(watched.incidents("reaping")) == 1


@pytest.mark.parametrize("name", ["helpless", "grandparent"])
def test_what_cannot_reap_its_zombies_is_drained(watched: WatchedHome, name: str) -> None:
    assert "(true), a child of" in drained(watched, name, "zombie-children")
    until(lambda: not watched.left(name))


def test_what_lives_in_other_threads_than_its_first_is_judged_by_its_beats(
    watched: WatchedHome,
) -> None:
    assert watched.incident("headless", "hung-idle").action == "killed"
    until(lambda: not watched.lives("headless"))
    assert len(watched.incidents("headless")) == 1
    beat = watched.beat("headless-busy")
    reading = read_stat(beat.pid) if beat else None
    assert reading and reading.state == "Z"
    assert watched.lives("headless-busy")
    assert watched.incidents("headless-busy") == []


def test_what_cannot_be_interrupted_is_killed_once_it_has_nothing_to_do(
    watched: WatchedHome,
) -> None:
    incident = watched.incident("blocked", "uninterruptible", 30)
    assert incident.action == "killed"
    until(lambda: not watched.lives("blocked"))
    until(lambda: not watched.left("blocked"))
    assert len(watched.incidents("blocked")) == 1


def test_what_cannot_be_interrupted_at_its_work_is_reported_and_left_alone(
    watched: WatchedHome,
) -> None:
    incident = watched.incident("blocked-busy", "uninterruptible", 30)
    assert incident.action == "reported"
    watched.turns("watchdog", 2)
    assert watched.lives("blocked-busy")
    watched.block_file("blocked-busy").unlink()
    until(lambda: watched.incidents("blocked-busy")[0].recovered_ms is not None)
    watched.turns("blocked-busy", 2)
    assert len(watched.incidents("blocked-busy")) == 1


def test_what_does_not_end_when_it_is_drained_is_killed_with_all_it_started(tmp_path: Path) -> None:
    with WatchedHome(tmp_path) as watched:
        watched.watch("fast")
        watched.start_watched(staying="leaks-and-stays")
        until(lambda: not watched.left("staying"), 40)
        actions = [(each.verdict, each.action) for each in watched.incidents("staying")]
        assert actions == [("leak", "drained"), ("leak", "killed")]
        assert "told to end" in watched.incidents("staying")[1].evidence


def test_settings_count_as_soon_as_they_are_right_and_a_mistake_changes_nothing(
    tmp_path: Path,
) -> None:
    with WatchedHome(tmp_path) as watched:
        configure(watched, "[shards.main\n")
        watched.watch("fast")
        [dummy] = watched.start_watched(worker="large")
        watched.turns("watchdog", 4)
        assert watched.incidents("worker") == []

        configure(watched, CONFIG)
        watched.incident("worker", "leak")
        assert dummy.wait(10) == 0
        watched.turns("watchdog", 2)

        configure(watched, "[shards.main\n\n")
        watched.turns("watchdog", 2)
        [dummy] = watched.start_watched(worker="large")
        assert dummy.wait(20) == 0
        log = (watched.home.log / "watchdog.log").read_text()
        # At least: a look may fall between the truncation and the writing of a file.
        assert 2 <= log.count("the limits stay as they are") <= 4
