"""Each death is one incident, whoever is left to see it, and each incident comes to an end."""

import os
import signal
from collections import Counter

import pytest
from place import ECHO, Place, until

from autopoll.process import incident_log

pytestmark = pytest.mark.early

TREE = ["poller", "watchdog", "worker"]


def pid_of(place: Place, name: str) -> int:
    return place.supervisord() if name == "supervisord" else place.pid(name)


def come_back(place: Place, killed: dict[str, int]) -> None:
    """Wait until all of it runs again, by `up` where supervisord is gone."""
    if "supervisord" in killed:
        place.run("up")
    for name in killed.keys() - {"supervisord"}:
        until(lambda name=name: (b := place.beat(name)) and b.pid != killed[name], 60)
    place.ready(*TREE)


@pytest.mark.long
def test_deaths_of_two_at_once_are_two_incidents_and_both_are_over_in_the_end(new_place) -> None:
    place = new_place()
    place.run("up")
    expected: Counter[str] = Counter()
    for pair in (
        ("supervisord", "watchdog"),
        ("watchdog", "poller"),
        ("supervisord", "poller"),
    ):
        killed = {name: pid_of(place, name) for name in pair}
        for pid in killed.values():
            os.kill(pid, signal.SIGKILL)
        come_back(place, killed)
        expected.update(pair)
        found = until(lambda: all_over(place, expected), 40, f"the incidents of {pair}")
        assert {each["verdict"] for each in found} == {"dead"}
        assert all(each["recovered_ms"] is not None for each in found), found


def all_over(place: Place, expected: Counter[str]) -> list[dict] | None:
    """Return the incidents once there are as many as expected, and none is open."""
    found = place.json_lines("incidents")
    counted = Counter(each["process"] for each in found)
    assert not counted - expected, f"{counted - expected} too many: {found}"
    is_over = all(each["recovered_ms"] is not None or each["closed"] for each in found)
    return found if counted == expected and is_over else None


def test_the_death_of_supervisord_is_told_at_once_and_ends_when_the_home_is_taken_down(
    new_place,
) -> None:
    place = new_place()
    place.run("up")
    killed = place.supervisord()
    os.kill(killed, signal.SIGKILL)
    [seen] = until(lambda: incident_log.read(place.home.incidents))
    assert (seen.process, seen.verdict, seen.pid) == ("supervisord", "dead", killed)
    assert seen.action == "left to autopoll up"
    place.run("down")
    [told] = place.json_lines("incidents")
    assert (told["closed"], told["recovered_ms"]) == ("the home was taken down", None)
    assert "the home was taken down" in place.run("incidents").stdout


@pytest.mark.long
def test_incidents_of_what_is_no_more_come_to_an_end_in_words(new_place) -> None:
    place = new_place(ECHO + '[shards.extra]\nbackend = "echo"\n')
    path = place.home.incidents

    def note(process: str, boot: str = "") -> None:
        incident_log.record(
            path, process=process, verdict="dead", action="killed", evidence="seen", pid=1
        )
        if boot:
            path.write_text(path.read_text().replace(incident_log.read(path)[-1].boot_id, boot))

    note("worker", boot="another")
    note("worker-renamed-1")
    place.run("up")
    note("worker-extra-1")
    place.run("shards", "remove", "extra")
    place.run("down")
    assert [(each["process"], each["closed"]) for each in place.json_lines("incidents")] == [
        ("worker", "the machine was restarted"),
        ("worker-renamed-1", "removed"),
        ("worker-extra-1", "removed"),
    ]
