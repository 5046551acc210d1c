"""Workers that are replaced before anything is wrong with them: by age, by count."""

import json

import pytest
from place import Place, until

from autopoll.process import incident_log
from autopoll.process.incident_log import Incident

pytestmark = pytest.mark.long

CONFIG = """
[shards.main]
backend = "echo"
{setting}
[shards.main.options]
delay = "100ms"
"""


def recycled(place: Place) -> list[Incident]:
    found = [each for each in incident_log.read(place.home.incidents) if each.process == "worker"]
    assert {each.verdict for each in found} <= {"recycled"}, found
    return found


def test_a_worker_that_has_answered_enough_is_replaced_between_two_questions(new_place) -> None:
    place = new_place(CONFIG.format(setting="max_requests = 30"))
    place.run("up")
    first = place.pid("worker")
    lines = "\n".join(f"question {number}?" for number in range(100))
    done = place.run("ask", "-", "--lines", "--json", stdin=lines)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["answer"] for each in answers] == lines.split("\n")
    assert {each["attempts"] for each in answers} == {1}
    until(lambda: len(recycled(place)) >= 1 and recycled(place)[0].recovered_ms is not None)
    assert "max_requests is 30" in recycled(place)[0].evidence
    assert place.pid("worker") != first


def test_a_worker_that_is_too_old_finishes_what_it_has_in_hand(new_place) -> None:
    place = new_place(CONFIG.format(setting='max_age = "5s"').replace("100ms", "6s"))
    place.run("up")
    first = place.pid("worker")
    assert place.ask("still there?")["attempts"] == 1
    until(lambda: (beat := place.beat("worker")) and beat.pid != first)
    until(lambda: recycled(place))
    assert "max_age is 5 s" in recycled(place)[0].evidence
