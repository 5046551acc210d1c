"""A home where the kernel refuses what only makes things faster: all of it works, and says so."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from legacy import Legacy
from place import Place, until

from autopoll.process import incident_log, orphans

TESTS = Path(__file__).parents[1]
REFUSED = "inotify_init1,pidfd_open,pidfd_send_signal,prctl"
CONFIG = f"""
[shards.main]
backend = "command"
[shards.main.options]
command = ["{sys.executable}", "{TESTS / "data" / "answerer.py"}"]
ready = true
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("without") / "home", CONFIG)
    place.command = [sys.executable, str(TESTS / "without.py"), REFUSED, *place.command]
    with place.running():
        yield place


def program(place: Place) -> int:
    """Return the pid of the program that the worker keeps."""
    marks = {
        "AUTOPOLL_SUPERVISED": str(place.home.supervisord_conf.parent),
        "AUTOPOLL_INSTANCE": "worker",
    }
    return next(each.pid for each in orphans.find(marks) if "answerer.py" in each.command)


def test_what_is_missing_is_told_and_nobody_is_woken_for_it(place: Place) -> None:
    def details() -> dict[str, str]:
        health = place.json("health")
        assert health["verdict"] == "ok"
        return {check["name"]: check["detail"] for check in health["checks"]}

    assert (
        "all of fs.inotify.max_user_instances are in use: foreign messages take up to a second"
        in details()["poller"]
    )
    # The watchdog is up before it has looked at another process for the first time.
    until(
        lambda: "no pidfds here: a death is noticed within a second" in details()["watchdog"],
        what="the watchdog's note",
    )
    logs = place.home.log
    assert (logs / "poller.log").read_text().count("foreign messages take up to a second") == 1
    assert "no pidfds here" in (logs / "watchdog.log").read_text()
    assert "an exit is noticed within 0.1 s" in (logs / "worker.log").read_text()
    assert "no subreaper is allowed" in (logs / "up.stderr").read_text()


def test_a_foreign_message_is_answered_after_a_look_of_the_pollers_own(place: Place) -> None:
    client = Legacy(place.home.var / "bridge.db")
    conversation = client.converse(f"conv_{os.urandom(8).hex()}")
    with closing(place.bridge()) as bridge:
        bridge.conversations.serve(conversation, "b", "main")
    client.db.execute(
        "INSERT INTO messages (conversation_id, from_session, to_session, message, timestamp)"
        " VALUES (?, 'a', 'b', 'why?', '2026-01-01T00:00:00')",
        (conversation,),
    )
    assert client.await_answer(conversation).startswith("you asked: why?")


def test_a_program_that_dies_is_replaced(place: Place) -> None:
    before = program(place)
    os.kill(before, signal.SIGKILL)
    assert place.ask("and now?", "--timeout", "30")["answer"] == "you asked: and now?"
    assert program(place) != before


@pytest.mark.long
def test_a_worker_that_dies_is_an_incident_and_a_stopped_one_is_told_to_go_on(
    place: Place,
) -> None:
    dead = place.kill("worker")
    until(lambda: (beat := place.beat("worker")) and beat.pid != dead and beat.state == "idle", 60)
    stopped = place.kill("worker", signal.SIGSTOP)
    began = time.monotonic()

    def seen() -> dict[int, str]:
        found = incident_log.read(place.home.incidents)
        return {each.pid: each.action for each in found if each.process == "worker"}

    until(lambda: stopped in seen(), 30)
    assert (seen()[dead], seen()[stopped]) == ("left to supervisord", "continued")
    assert time.monotonic() - began < 20
    assert place.ask("still there?", "--timeout", "30")["status"] == "answered"


def test_it_goes_down_and_leaves_nothing(place: Place) -> None:
    place.run("down")
    assert place.processes() == []
