"""A whole home that answers by the real Claude Code CLI, against a mock of the API."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from claude_account import KEY, account
from mock_api.server import MockApi, running
from place import Place, answers_to, until

from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.home.config import load

pytestmark = [pytest.mark.claude, pytest.mark.long]

CONFIG = """
[shards.main]
backend = "claude-code"
context = ["notes.md"]
request_timeout = "60s"
[shards.main.options]
model = "haiku"
"""
AGENT = {
    "CLAUDECODE": "1",
    "CLAUDE_CODE_ENTRYPOINT": "cli",
    "CLAUDE_CODE_SESSION_ID": "6f9b0c1e-nested",
    "CLAUDE_CODE_CHILD_SESSION": "1",
    "CLAUDE_CODE_SSE_PORT": "1",
    "CLAUDE_PID": "1",
    "CLAUDE_EFFORT": "high",
    "AI_AGENT": "nested",
    "TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
OWN = {"CLAUDE_CODE_ENTRYPOINT": "sdk-py"}  # as the SDK sets it for its CLI


@pytest.fixture
def api() -> Iterator[MockApi]:
    with running(key=KEY) as api:
        yield api


@pytest.fixture
def place(new_place: Callable[..., Place], api: MockApi, tmp_path: Path) -> Place:
    place = new_place(CONFIG)
    (place.root / "notes.md").write_text("# Hues\n\nThe tulip is yellow.\n")
    place.environ.update(account(tmp_path, api.url))
    return place


def clis(place: Place) -> list[psutil.Process]:
    """Return the CLI processes of the home."""
    return [each for each in place.processes() if Path(command(each)).name == "claude"]


def command(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except psutil.NoSuchProcess:
        return ""


def at_work(place: Place, api: MockApi) -> psutil.Process:
    """Return the CLI that has a question open at the service."""
    port = api.server_address[1]

    def connected(process: psutil.Process) -> bool:
        try:
            return any(each.raddr and each.raddr.port == port for each in process.net_connections())
        except psutil.NoSuchProcess:
            return False

    return until(lambda: next((each for each in clis(place) if connected(each)), None))


def in_mid_query(place: Place, api: MockApi) -> subprocess.Popen[str]:
    """Ask, and return when the question is at a service that does not answer it."""
    place.run("up")
    api.mood = "delay=60000"
    asking = place.start_ask("What about the tulip?")
    until(lambda: api.asked, 60, "the question to reach the service")
    api.mood = ""
    return asking


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_question_is_answered_once_when_its_cli_is_struck_in_the_middle_of_it(
    place, api, number: int
) -> None:
    asking = in_mid_query(place, api)
    struck = at_work(place, api)
    os.kill(struck.pid, number)
    begun = time.monotonic()
    out, err = asking.communicate(timeout=60)
    print(f"from {signal.Signals(number).name} to the answer: {time.monotonic() - begun:.2f} s")
    assert asking.returncode == 0, err
    answer = json.loads(out)
    assert answer["answer"] == "You asked: What about the tulip? [notes.md:3-3]"
    assert answer["sources"] == ["notes.md:3-3"]
    assert answers_to(place.bridge().messages.find(limit=100)) == [1]
    assert len(api.asked) == 2
    until(lambda: not struck.is_running() or struck.status() == psutil.STATUS_ZOMBIE)
    assert place.run("incidents", "--json").stdout == ""  # no process of ours was to be restarted


def test_a_killed_worker_leaves_no_cli_behind(place, api) -> None:
    asking = in_mid_query(place, api)
    before = {each.pid for each in clis(place)}
    stopped = at_work(place, api)
    os.kill(stopped.pid, signal.SIGSTOP)  # so that it cannot end by itself
    place.kill("worker")
    out, err = asking.communicate(timeout=60)
    assert asking.returncode == 0, err
    assert json.loads(out)["answer"].startswith("You asked: What about the tulip?")
    until(lambda: not before & {each.pid for each in clis(place)}, what="the old CLIs to be gone")
    until(lambda: len(clis(place)) == 2)


def test_it_works_inside_an_agent_and_keeps_the_key_to_the_cli(place, api) -> None:
    theirs, ours = os.pipe()
    os.write(ours, b"what is typed next\n")
    try:
        subprocess.run(
            [*place.command, "up"], cwd=place.root, env={**place.environ, **AGENT},
            stdin=theirs, capture_output=True, timeout=90, check=True,
        )  # fmt: skip
        assert place.ask("the tulip?")["sources"] == ["notes.md:3-3"]
        until(lambda: len(clis(place)) == 2)
        pipe = os.readlink(f"/proc/self/fd/{theirs}")
        for process in place.processes():
            environ = process.environ()
            seen = {name: environ[name] for name in AGENT if name in environ}
            assert seen.items() <= OWN.items(), process
            assert pipe not in [os.readlink(fd) for fd in Path(f"/proc/{process.pid}/fd").iterdir()]
            assert KEY not in " ".join(process.cmdline())
    finally:
        os.close(theirs)
        os.close(ours)
    for words in (["status", "--json"], ["logs"], ["incidents", "--json"]):
        assert KEY not in place.run(*words).stdout
    for path in place.home.var.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


@pytest.mark.timeout(400)  # each starts a process of half a second of work
def test_fifty_questions_in_a_row_leave_the_memory_where_it_was(place, api) -> None:
    place.run("up")
    config = load(place.home, place.environ)
    bridge = place.bridge()
    client = Client(place.home, config, bridge)
    readings = {}
    with PollerConnection(place.home) as connection:
        for number in range(1, 51):
            ids = client.ask([f"tulip {number}?"], "main", connection=connection).ids
            [result] = client.wait(ids, connection, timeout=30)
            assert result.sources == ["notes.md:3-3"]
            if number in (10, 50):
                readings[number] = settled(place)
    bridge.close()
    for number, (worker, tree) in readings.items():
        print(f"after {number}: worker {worker / 1e6:.0f} MB, with its CLIs {tree / 1e6:.0f} MB")
    assert len(api.asked) == 50
    for early, late in zip(readings[10], readings[50], strict=True):
        assert late < early * 1.1


def settled(place: Place) -> tuple[int, int]:
    """Return the memory of the worker alone and with all its children, once both are at rest."""
    worker = psutil.Process(place.pid("worker"))
    seen: list[tuple[float, int]] = []

    def at_rest() -> tuple[int, int] | None:
        children = worker.children(recursive=True)
        own, tree = rss(worker), sum(rss(each) for each in (worker, *children))
        seen.append((time.monotonic(), tree))
        last_second = [each for at, each in seen if at > seen[-1][0] - 1]
        calm = len(children) == 2 and max(last_second) < 1.01 * min(last_second)
        return (own, tree) if calm and seen[-1][0] > seen[0][0] + 1 else None

    return until(at_rest)


def rss(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def test_status_tells_what_it_has_cost(place, api) -> None:
    place.run("up")
    answer: dict[str, Any] = place.ask("the tulip?")
    text = json.dumps([answer, place.json("status")])
    assert '"output_tokens"' in text
    assert '"cost_usd"' in text
