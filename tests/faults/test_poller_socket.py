"""Asking over the poller's socket while pollers and askers are killed, stopped and exchanged.

What is asked is asked once and answered once, and whoever waits waits on.
"""

import json
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from place import Place, until

from autopoll.home.home import socket_path
from autopoll.message import read_query
from autopoll.process.supervisor_rpc import Supervisor

pytestmark = pytest.mark.early

DEATHS = Path(__file__).parent.parent / "data" / "deaths" / "sitecustomize.py"
CONFIG = """
[access]
rate_per_second = 10000
rate_burst = 10000
[shards.main]
backend = "echo"
options = { concurrency = 16, delay = "30ms" }
[shards.slow]
backend = "echo"
options = { delay = "2s" }
"""
CROWD = 200


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("socket") / "home", CONFIG)
    deaths = place.root / "deaths"
    deaths.mkdir()
    shutil.copy(DEATHS, deaths)
    place.environ["PYTHONPATH"] = str(deaths)
    with place.running():
        yield place


@pytest.fixture
def place(running: Place) -> Iterator[Place]:
    running.ready("poller", "worker", "worker-slow-1")
    yield running
    until(lambda: all_answered_once(running), what="every question to have its one answer")


def all_answered_once(place: Place) -> bool:
    """Tell whether all that was asked is answered; no question and no answer is there twice."""
    with closing(place.bridge()) as bridge:
        messages = bridge.messages.find(limit=100_000)
    asked = Counter(
        (each.conversation, read_query(each.text).question)
        for each in messages
        if each.sender == "a"
    )
    answered = Counter(
        json.loads(each.metadata or "{}")["in_reply_to"] for each in messages if each.sender == "b"
    )
    assert not [text for (_, text), count in asked.items() if count > 1], "asked twice"
    assert not [number for number, count in answered.items() if count > 1], "answered twice"
    return len(asked) == len(answered)


def crowd(place: Place, name: str) -> "subprocess.Popen[str]":
    """Start a process in which so many wait for an answer; its questions have been written."""
    asking = subprocess.Popen(
        [*place.command, "ask", "-", "--lines", "--json"],
        cwd=place.root, env=place.environ, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert asking.stdin
    asking.stdin.write("".join(f"{name} {number}\n" for number in range(CROWD)))
    asking.stdin.flush()
    return asking


def answers(asking: "subprocess.Popen[str]") -> list[str]:
    out, err = asking.communicate(timeout=120)
    assert asking.returncode == 0, err
    return [json.loads(line)["answer"] for line in out.splitlines()]


@pytest.mark.long
@pytest.mark.parametrize("moment", ["received", "committed", "settled"])
def test_a_question_is_asked_once_when_the_poller_is_killed_at_this_moment(
    place: Place, moment: str
) -> None:
    poller = place.pid("poller")
    deadly = place.root / "deaths" / moment
    deadly.touch()
    question = f"is it {moment}?"
    assert place.ask(question, "--timeout", "60")["answer"] == question
    assert not deadly.exists()
    until(lambda: (beat := place.beat("poller")) and beat.pid != poller, what="a new poller")


@pytest.mark.long
@pytest.mark.parametrize("way", ["killed", "stopped", "drained", "down and up"])
def test_two_hundred_wait_on_while_the_poller_is(place: Place, way: str) -> None:
    asking = crowd(place, way)
    place.busy("worker")
    poller = place.pid("poller")
    supervisor = Supervisor(socket_path(place.home))
    match way:
        case "killed":
            for _ in range(3):
                place.kill("poller")
                until(lambda old=poller: (now := place.beat("poller")) and now.pid != old)
                poller = place.pid("poller")
        case "stopped":
            place.kill("poller", signal.SIGSTOP)
        case "drained":
            place.run("restart", "poller")
        case "down and up":
            supervisor.stop("poller", wait=True)
            assert not place.home.poller_socket.exists()
            supervisor.start("poller")
    assert answers(asking) == [f"{way} {number}" for number in range(CROWD)]


def test_what_is_asked_while_there_is_no_poller_is_answered_by_the_next_one(place: Place) -> None:
    supervisor = Supervisor(socket_path(place.home))
    supervisor.stop("poller", wait=True)
    asking = place.start_ask("is nobody there?")
    with closing(place.bridge()) as bridge:
        until(lambda: bridge.messages.find(waiting=True, kind="query"), what="the question")
    supervisor.start("poller")
    out, err = asking.communicate(timeout=60)
    assert json.loads(out)["answer"] == "is nobody there?", err


@pytest.mark.long
def test_an_asker_that_is_killed_has_asked_once_or_not_at_all(place: Place) -> None:
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    print(f"seed {seed}")
    for number in range(30):
        asking = place.start_ask(f"killed asker {number}")
        time.sleep(moments.uniform(0.0, 0.15))
        asking.kill()
        asking.communicate()
    assert place.ask("and who is left?")["status"] == "answered"


def test_lines_are_answered_while_the_input_is_still_open(place: Place) -> None:
    asking = subprocess.Popen(
        [*place.command, "ask", "-", "--lines", "--json", "--timeout", "60"],
        cwd=place.root, env=place.environ, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert asking.stdin and asking.stdout
    ids = []
    for number in range(5):
        asking.stdin.write(f"\nline {number}\n")
        result = json.loads(asking.stdout.readline())
        assert result["answer"] == f"line {number}"
        ids.append(result["id"])
    assert ids == sorted(ids)
    place.kill("poller")
    asking.stdin.write("first\nsecond\n")
    assert json.loads(asking.stdout.readline())["answer"] == "first"
    asking.stdin.write("no end of line")
    asking.stdin.close()
    assert json.loads(asking.stdout.readline())["answer"] == "second"
    assert json.loads(asking.stdout.readline())["answer"] == "no end of line"
    assert asking.wait(30) == 0
    asking.stdout.close()


def test_a_line_that_is_no_question_ends_the_input_after_the_answers_before_it(
    place: Place,
) -> None:
    done = place.run("ask", "-", "--lines", "--json", stdin="before\nnone \0\nafter\n", code=4)
    assert [json.loads(line)["answer"] for line in done.stdout.splitlines()] == ["before"]
    assert "NUL" in json.loads(done.stderr)["error"]


def test_a_line_that_is_not_answered_in_time_does_not_keep_the_next_from_its_answer(
    place: Place,
) -> None:
    done = place.run(
        "ask", "--lines", "--json", "--shard", "slow,main", "--timeout", "500ms",
        stdin="late?\n", code=5,
    )  # fmt: skip
    first, second = [json.loads(line) for line in done.stdout.splitlines()]
    assert (first["status"], second["answer"]) == ("pending", "late?")
    assert f"autopoll answer {first['id']}" in json.loads(done.stderr)["mend"]
    assert place.json("answer", str(first["id"]))["answer"] == "late?"
