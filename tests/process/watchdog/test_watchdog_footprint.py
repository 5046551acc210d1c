"""Processes that hold too much, or are in a state of their own, before a real watchdog."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from place import until
from ward import Ward

from autopoll.process.heartbeat import State
from autopoll.process.vitals import all_vitals, vitals

pytestmark = pytest.mark.long

CONFIG = """
[shards.main]
backend = "echo"
max_memory = "64MB"
"""
PATIENTS = {
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
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with Ward(tmp_path_factory.mktemp("ward")) as ward:
        ward.home.config.write_text(CONFIG)
        ward.watch()
        ward.admit(**PATIENTS)
        yield ward


def ended_well(ward: Ward, name: str) -> bool:
    beat = ward.beat(name)
    return beat is not None and beat.state is State.STOPPED and not ward.lives(name)


def drained(ward: Ward, name: str, verdict: str) -> str:
    """Wait until a process has been told to end and has, and return the evidence."""
    incident = ward.incident(name, verdict, 30)
    assert incident.action == "drained"
    until(lambda: ended_well(ward, name))
    assert [each.verdict for each in ward.incidents(name)] == [verdict]
    return incident.evidence


def configure(ward: Ward, text: str) -> None:
    """Change the settings at once, so that nobody reads half of them."""
    new = ward.home.root / "new.toml"
    new.write_text(text)
    new.rename(ward.home.config)


def zombies_of(pid: int) -> list[int]:
    return [each.pid for each in all_vitals() if each.zombie and each.parent == pid]


def test_who_uses_up_its_descriptors_is_drained_and_what_it_started_is_ended(ward: Ward) -> None:
    until(lambda: len(ward.left("leaking")) == 4)  # itself, and three children
    assert "of 100 descriptors open" in drained(ward, "leaking", "leak")
    until(lambda: not ward.left("leaking"))


def test_who_outgrows_the_memory_of_its_shard_is_drained_and_others_are_not(ward: Ward) -> None:
    assert "allowed are 64 MB" in drained(ward, "worker", "leak")
    assert ward.lives("modest")
    assert ward.incidents("modest") == []


def test_a_zombie_is_reaped_by_its_parent_when_it_is_told_to(ward: Ward) -> None:
    incident = ward.incident("reaping", "zombie-children", 30)
    assert incident.action == "told to reap"
    assert "(true), a child of" in incident.evidence
    until(lambda: ward.incidents("reaping")[0].recovered_ms)
    beat = ward.beat("reaping")
    assert beat and zombies_of(beat.pid) == []
    assert ward.lives("reaping")
    assert len(ward.incidents("reaping")) == 1


@pytest.mark.parametrize("name", ["helpless", "grandparent"])
def test_who_cannot_reap_its_zombies_is_drained(ward: Ward, name: str) -> None:
    assert "(true), a child of" in drained(ward, name, "zombie-children")
    until(lambda: not ward.left(name))


def test_who_lives_in_other_threads_than_its_first_is_judged_by_its_beats(ward: Ward) -> None:
    assert ward.incident("headless", "hung-idle").action == "killed"
    until(lambda: not ward.lives("headless"))
    assert len(ward.incidents("headless")) == 1
    beat = ward.beat("headless-busy")
    reading = vitals(beat.pid) if beat else None
    assert reading and reading.state == "Z"
    assert ward.lives("headless-busy")
    assert ward.incidents("headless-busy") == []


def test_who_cannot_be_interrupted_is_killed_once_it_has_nothing_to_do(ward: Ward) -> None:
    incident = ward.incident("blocked", "uninterruptible", 30)
    assert incident.action == "killed"
    until(lambda: not ward.lives("blocked"))
    until(lambda: not ward.left("blocked"))
    assert len(ward.incidents("blocked")) == 1


def test_who_cannot_be_interrupted_at_its_work_is_reported_and_left_alone(ward: Ward) -> None:
    incident = ward.incident("blocked-busy", "uninterruptible", 30)
    assert incident.action == "reported"
    ward.turns("watchdog", 2)
    assert ward.lives("blocked-busy")
    ward.spell("blocked-busy").unlink()
    until(lambda: ward.incidents("blocked-busy")[0].recovered_ms is not None)
    ward.turns("blocked-busy", 2)
    assert len(ward.incidents("blocked-busy")) == 1


def test_who_does_not_end_when_it_is_drained_is_killed_with_all_it_started(tmp_path: Path) -> None:
    with Ward(tmp_path) as ward:
        ward.watch("fast")
        ward.admit(staying="leaks-and-stays")
        until(lambda: not ward.left("staying"), 40)
        actions = [(each.verdict, each.action) for each in ward.incidents("staying")]
        assert actions == [("leak", "drained"), ("leak", "killed")]
        assert "told to end" in ward.incidents("staying")[1].evidence


def test_settings_count_as_soon_as_they_are_right_and_a_mistake_changes_nothing(
    tmp_path: Path,
) -> None:
    with Ward(tmp_path) as ward:
        configure(ward, "[shards.main\n")
        ward.watch("fast")
        [patient] = ward.admit(worker="large")
        ward.turns("watchdog", 4)
        assert ward.incidents("worker") == []

        configure(ward, CONFIG)
        ward.incident("worker", "leak")
        assert patient.wait(10) == 0
        ward.turns("watchdog", 2)

        configure(ward, "[shards.main\n\n")
        ward.turns("watchdog", 2)
        [patient] = ward.admit(worker="large")
        assert patient.wait(20) == 0
        log = (ward.home.log / "watchdog.log").read_text()
        # At least: a look may fall between the truncation and the writing of a file.
        assert 2 <= log.count("the limits stay as they are") <= 4
