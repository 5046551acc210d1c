"""The command line on a home that runs: waiting, interrupting, following, and looking."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from place import Place, until

from autopoll.cli.log_tail import Tail
from autopoll.home.home import socket_path
from autopoll.process.supervisor_rpc import Supervisor

GATED = Path(__file__).parents[1] / "data" / "gated.py"
CONFIG = f"""
[access]
rate_burst = 40
rate_per_second = 2000
[shards.main]
backend = "echo"
[shards.slow]
backend = "command"
[shards.slow.options]
command = ["{sys.executable}", "{GATED}"]
"""
ENDLESS = """
[delivery]
drain_timeout = "1s"
[shards.main]
backend = "echo"
[shards.main.options]
delay = "60s"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One home for the tests that leave it as it was; its path is long and has spaces."""
    with Place(tmp_path_factory.mktemp("long " * 20) / "a home", CONFIG).running() as place:
        open_gate(place)
        yield place


def open_gate(place: Place) -> None:
    """Let shard slow answer."""
    (place.root / "go").touch()


@contextmanager
def gate_shut(place: Place) -> Iterator[None]:
    """Keep shard slow from answering, from when it has nothing in hand."""
    until(lambda: (beat := place.beat("worker-slow-1")) and beat.request_id is None)
    (place.root / "go").unlink()
    try:
        yield
    finally:
        open_gate(place)


@contextmanager
def running(place: Place, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command that does not end by itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "autopoll", *args],
        cwd=place.root,
        env=place.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_question_stays_and_its_answer_can_be_fetched(
    place: Place, number: signal.Signals
) -> None:
    with gate_shut(place):
        asking = place.start_ask("still there?", "--shard", "slow")
        place.busy("worker-slow-1")
        asking.send_signal(number)
        out, err = asking.communicate(timeout=60)
    assert asking.returncode == 130
    assert out == ""
    command = json.loads(err)["mend"].rpartition("autopoll answer ")[2].split()
    result = place.json("answer", command[0])
    assert (result["status"], result["answer"]) == ("answered", "still there?")


def test_a_time_out_exits_5_and_the_answer_can_be_fetched(place: Place) -> None:
    with gate_shut(place):
        done = place.run("ask", "x", "--shard", "slow", "--timeout", "100ms", "--json", code=5)
    pending = json.loads(done.stdout)
    assert (pending["status"], pending["answer"]) == ("pending", None)
    assert f"autopoll answer {pending['id']}" in json.loads(done.stderr)["mend"]
    assert place.json("answer", str(pending["id"]))["answer"] == "x"


def test_what_takes_longer_than_a_second_says_what_it_waits_for(place: Place) -> None:
    with gate_shut(place):
        asking = place.start("ask", "x", "--shard", "slow")
        assert asking.stderr
        said = asking.stderr.readline()
        while said and "shard slow is working on question" not in said:
            said = asking.stderr.readline()
        assert said
    out, _ = asking.communicate(timeout=60)
    assert (asking.returncode, out) == (0, "x\n")


def test_lines_are_answered_in_order_even_when_they_are_more_than_the_budget(place: Place) -> None:
    questions = [f"question {number} ü🙂" for number in range(150)]
    done = place.run("ask", "--lines", "--json", stdin="\n".join(questions))
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["answer"] for result in results] == questions
    assert len({result["id"] for result in results}) == 150


def test_all_shards_answer_when_all_are_asked(place: Place) -> None:
    done = place.run("ask", "you?", "--all", "--json")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(result["shard"], result["answer"]) for result in results] == [
        ("main", "you?"),
        ("slow", "you?"),
    ]


def test_a_long_question_from_stdin_comes_back_whole(place: Place) -> None:
    question = "ä🙂\r\n\t" * 100_000
    done = place.run("ask", "-", "--json", stdin=question)
    assert json.loads(done.stdout)["answer"].split() == question.split()


def test_status_shows_work_while_it_is_done(place: Place) -> None:
    with gate_shut(place):
        asking = place.start_ask("x", "--shard", "slow")
        place.busy("worker-slow-1")
        status = place.json("status")
    asking.communicate(timeout=60)
    [slow] = [each for each in status["processes"] if each["name"] == "worker-slow-1"]
    in_flight = {each["name"]: each["in_flight"] for each in status["shards"]}
    assert (slow["state"], in_flight) == ("busy", {"main": 0, "slow": 1})
    assert status["ready"]
    processes = {process["name"]: process for process in status["processes"]}
    assert processes["worker"]["pid"] == place.pid("worker")
    assert all(process["rss_bytes"] > 0 and process["fds"] > 0 for process in processes.values())
    assert [shard["ready"] for shard in status["shards"]] == [1, 1]


def test_health_asks_every_shard(place: Place) -> None:
    health = place.json("health", "--deep")
    assert health["verdict"] == "ok"
    canaries = [check for check in health["checks"] if check["name"].startswith("canary")]
    assert [check["name"] for check in canaries] == ["canary main", "canary slow"]


def test_followed_messages_show_what_comes(place: Place) -> None:
    with running(place, "messages", "--follow", "--json", "--type", "query") as following:
        assert following.stdout
        seen = [json.loads(following.stdout.readline())["id"]]
        asked = place.ask("fresh")["id"]
        until(
            lambda: seen.append(json.loads(following.stdout.readline())["id"]) or asked in seen,
            what="the message",
        )
        following.send_signal(signal.SIGINT)
        assert following.wait(timeout=10) == 130


def test_a_watched_status_goes_on_until_it_is_interrupted(place: Place) -> None:
    with running(place, "status", "--watch", "--json") as watching:
        assert watching.stdout
        for _ in range(2):
            assert json.loads(watching.stdout.readline())["ready"]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=10) == 130


def test_a_reader_that_goes_away_is_no_error(place: Place) -> None:
    with running(place, "messages", "--json", "--limit", "1000") as printing:
        assert printing.stdout and printing.stderr
        printing.stdout.close()
        assert printing.stderr.read() == ""


def test_no_token_is_in_any_command_line_log_or_heartbeat(place: Place) -> None:
    kept = json.loads(place.home.credentials.read_text())
    tokens = [token.encode() for pair in kept["tokens"].values() for token in pair.values()]
    with gate_shut(place):
        asking = place.start_ask("x", "--shard", "slow")
        place.busy("worker-slow-1")
        pids = [asking.pid, *(process.pid for process in place.processes())]
        texts = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]
        texts += [Path(f"/proc/{pid}/environ").read_bytes() for pid in pids]
    asking.communicate(timeout=60)
    texts += [
        path.read_bytes()
        for folder in (place.home.log, place.home.beats, place.home.supervisord_conf.parent)
        for path in folder.rglob("*")
        if path.is_file()
    ]
    assert all(token not in text for token in tokens for text in texts)


def test_a_hung_supervisord_is_told_from_one_that_is_down(place: Place) -> None:
    supervisor = Supervisor(socket_path(place.home))
    supervisor.stop("watchdog", wait=True)  # it would send supervisord on its way again
    os.kill(place.supervisord(), signal.SIGSTOP)
    try:
        for command in ("health", "status"):
            done = place.run(command, "--json", code=3, timeout=10)
            assert "does not answer" in done.stdout
        assert place.ask("and yet?")["answer"] == "and yet?"
    finally:
        os.kill(place.supervisord(), signal.SIGCONT)
        supervisor.start("watchdog")
    place.ready("watchdog")


@pytest.mark.long
def test_who_waits_while_everything_is_taken_down_is_told_that_the_question_is_kept(
    new_place,
) -> None:
    place = new_place(ENDLESS)
    place.run("up")
    asking = place.start_ask("patience")
    place.busy("worker")
    place.run("down")
    _, err = asking.communicate(timeout=30)
    assert asking.returncode == 2
    told = json.loads(err)
    assert "is kept and will be answered after `autopoll up`" in told["error"]


@pytest.mark.long
def test_after_down_a_question_is_kept_and_answered_after_up(new_place) -> None:
    place = new_place()
    place.run("up")
    place.run("down")
    assert place.json("status", code=2)["processes"][0]["state"] == "down"
    done = place.run("ask", "later", "--json", code=2)
    asked = json.loads(done.stdout)["id"]
    assert "autopoll is down" in json.loads(done.stderr)["error"]
    place.run("answer", str(asked), code=2)
    place.run("up")
    assert place.json("answer", str(asked))["answer"] == "later"


def test_a_log_is_followed_through_its_rotation(tmp_path: Path) -> None:
    log = tmp_path / "poller.log"
    log.write_text('{"text":"one"}\n')
    tail = Tail(log)
    assert [line["text"] for line in tail.last(10)] == ["one"]
    with log.open("a") as file:
        file.write('{"text":"two"}\n{"text":"th')
    assert [line["text"] for line in tail.fresh()] == ["two"]
    with log.open("a") as file:
        file.write('ree"}\n')
    log.rename(tmp_path / "poller.log.1")
    assert [line["text"] for line in tail.fresh()] == ["three"]
    log.write_text('{"text":"four"}\n')
    assert [line["text"] for line in tail.fresh()] == ["four"]
