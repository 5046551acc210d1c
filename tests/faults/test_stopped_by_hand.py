"""A process that somebody stopped by hand: whoever waits is told soon, and what to type."""

import asyncio
import json
import time
from collections.abc import Iterator

import httpx
import pytest
from agents import at_stdio
from doors import free_port
from place import Place

from autopoll.home.home import socket_path
from autopoll.process.supervisor_rpc import Supervisor

CONFIG = """
[shards.main]
backend = "echo"
[shards.other]
backend = "echo"
[gateway]
enabled = true
listen = "127.0.0.1:{port}"
"""
SOON_S = 60.0  # far below the time-outs of the commands, which are minutes


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, str, str]]:
    port = free_port()
    place = Place(tmp_path_factory.mktemp("hand") / "home", CONFIG.format(port=port))
    try:
        token = place.json("gateway", "token")["token"]
        place.run("up")
        yield place, f"http://127.0.0.1:{port}", token
    finally:
        place.close()


def stop(place: Place, name: str) -> None:
    Supervisor(socket_path(place.home)).stop(f"{name}:{name}", wait=True)


def told(place: Place, *args: str) -> tuple[str, float]:
    """Wait for an answer that does not come; return what was said, and how long it took."""
    began = time.monotonic()
    done = place.run(*args, "--timeout", "10m", code=2)
    return done.stderr, time.monotonic() - began


@pytest.mark.long
def test_while_the_poller_is_stopped_every_door_says_so_and_what_was_asked_is_kept(door) -> None:
    place, url, token = door
    stop(place, "poller")
    said, took = told(place, "ask", "kept?")
    assert took < SOON_S
    first = int(said.split("question ")[1].split()[0])
    assert f"poller was stopped by hand: question {first} is kept" in said
    assert "autopoll restart poller" in said and f"autopoll answer {first}" in said
    said, _ = told(place, "answer", str(first))
    assert f"poller was stopped by hand: question {first} is kept" in said
    lines = place.run("ask", "kept?", "--json", "--timeout", "10m", code=2)
    assert json.loads(lines.stdout)["status"] == "pending"
    assert "autopoll restart poller" in json.loads(lines.stderr)["mend"]

    response = httpx.post(
        f"{url}/v1/questions",
        json={"question": "kept?"},
        headers={"Authorization": f"Bearer {token}", "Prefer": "wait=600"},
        timeout=SOON_S,
    )
    assert response.status_code == 503
    assert f"poller was stopped by hand: question {first + 2} is kept" in response.text
    assert response.headers["Location"] == f"/v1/questions/{first + 2}"

    async def by_mcp() -> str:
        async with at_stdio(place) as agent:
            return await agent.refused("ask", question="kept?", timeout=600.0)

    said = asyncio.run(by_mcp())
    assert f"poller was stopped by hand: question {first + 3} is kept" in said
    assert f"autopoll restart poller; then fetch the answer with get_answer, id {first + 3}" in said

    assert place.json("status", code=1)["ready"] is False
    assert place.json("health", code=2)["verdict"] == "down"
    place.run("restart", "poller")
    ids = map(str, range(first, first + 4))
    answers = place.run("answer", *ids, "--json").stdout.splitlines()
    assert [json.loads(line)["answer"] for line in answers] == ["kept?"] * 4


def test_while_all_instances_of_a_shard_are_stopped_it_is_named_and_the_others_answer(door) -> None:
    place, _, _ = door
    stop(place, "worker-other-1")
    said, took = told(place, "ask", "kept?", "--shard", "other")
    assert took < SOON_S
    assert "worker-other-1 was stopped by hand: question" in said
    assert "autopoll restart worker-other-1" in said
    assert place.ask("and you?")["status"] == "answered"
    waiting = place.start_ask("kept too?", "--shard", "other")
    place.run("restart", "worker-other-1")
    out, _ = waiting.communicate(timeout=60)
    number = json.loads(out.splitlines()[0])["id"]
    assert place.json("answer", str(number))["answer"] == "kept too?"


@pytest.mark.long
def test_without_a_watchdog_questions_are_answered_and_health_names_it(door) -> None:
    place, _, _ = door
    stop(place, "watchdog")
    assert place.ask("all the same?")["status"] == "answered"
    health = place.json("health", code=1)
    assert [each["name"] for each in health["checks"] if not each["ok"]] == ["watchdog"]
    place.run("restart", "watchdog")
    place.run("health")
