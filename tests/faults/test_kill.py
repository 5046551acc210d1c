"""Every process of a home killed or stopped in the middle of a question."""

import json
import os
import signal
from collections.abc import Iterator

import pytest
from place import Place, until

pytestmark = pytest.mark.early

SLOW = """
[shards.main]
backend = "echo"
[shards.main.options]
delay = "600ms"
"""
TREE = ["poller", "watchdog", "worker"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("kill") / "home", SLOW).running() as place:
        yield place


@pytest.fixture
def place(running: Place) -> Iterator[Place]:
    """A home that is whole after each test, by itself or by the test's `up`."""
    if running.names() != TREE:  # the test before has failed
        running.down()
        running.run("up")
    yield running
    assert_whole(running)


def finish(place: Place, asking) -> dict:
    out, err = asking.communicate(timeout=60)
    assert asking.returncode == 0, err
    return json.loads(out)


def assert_whole(place: Place) -> None:
    """One process of each role, each ready, and no second answer."""
    place.ready(*TREE)
    until(lambda: place.names() == TREE, what="exactly one process of each role")
    bridge = place.bridge()
    replies = [m for m in bridge.messages.find(limit=1000) if m.sender == "b"]
    assert len(replies) == bridge.overview.counts()["done"]
    bridge.close()


@pytest.mark.parametrize("role", TREE)
def test_a_question_is_answered_when_a_process_is_killed_in_the_middle_of_it(place, role) -> None:
    asking = place.start_ask("still there?")
    place.busy("worker")
    old = place.kill(role)

    assert finish(place, asking)["answer"] == "still there?"
    until(lambda: (beat := place.beat(role)) and beat.pid != old, 60, f"{role} to be replaced")


@pytest.mark.parametrize("role", TREE)
def test_a_question_is_answered_when_a_process_is_stopped_in_the_middle_of_it(place, role) -> None:
    asking = place.start_ask("still there?")
    place.busy("worker")
    stopped = place.kill(role, signal.SIGSTOP)

    assert finish(place, asking)["answer"] == "still there?"
    until(lambda: place.pid(role) != stopped or _runs(stopped), 60, f"{role} to run again")


def test_when_supervisord_is_killed_what_is_in_flight_is_finished_and_up_carries_on(
    place,
) -> None:
    asking = place.start_ask("the last one?")
    place.busy("worker")
    os.kill(place.supervisord(), signal.SIGKILL)

    assert finish(place, asking)["answer"] == "the last one?"
    until(lambda: not place.processes(), 60, "everything to exit")
    health = place.json("health", code=2)
    assert health["verdict"] == "down"

    kept = place.json("ask", "and this one?", "--no-wait", code=None)["id"]
    place.run("up")
    assert place.json("answer", str(kept))["answer"] == "and this one?"


def test_up_straight_after_supervisord_was_killed_leaves_no_process_twice(place) -> None:
    asking = place.start_ask("in flight?")
    place.busy("worker")
    os.kill(place.supervisord(), signal.SIGKILL)
    place.run("up")

    assert finish(place, asking)["answer"] == "in flight?"


def test_after_a_power_cut_everything_unfinished_is_answered_without_hand_work(place) -> None:
    ids = [place.json("ask", f"question {n}?", "--no-wait")["id"] for n in range(5)]
    place.busy("worker")
    pids = [place.supervisord(), *(process.pid for process in place.processes())]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # so that none can react to the death of another
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not place.processes())

    place.run("up")
    for number, message in enumerate(ids):
        assert place.json("answer", str(message))["answer"] == f"question {number}?"


def test_a_second_supervisord_on_one_home_is_refused(place) -> None:
    refused = place.run("up", code=1)
    assert f"process {place.supervisord()}" in refused.stderr
    assert "autopoll restart" in refused.stderr
    refused = place.run("up", "--foreground", code=1)
    assert "is up already" in refused.stderr


def test_a_second_poller_or_worker_on_one_home_is_refused(place) -> None:
    pid = place.pid("poller")
    assert f"process {pid}" in place.run("poller", code=1).stderr
    refused = place.run("worker", "--shard", "main", "--instance", "1", code=1)
    assert f"process {place.pid('worker')}" in refused.stderr
    assert place.pid("poller") == pid


def test_down_leaves_no_process_and_nothing_in_run(new_place) -> None:
    place = new_place()
    place.run("up")
    place.ask("hello?")
    place.run("down")
    assert not place.processes()
    assert list(place.home.run.iterdir()) == []


def _runs(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] not in "Tt"
