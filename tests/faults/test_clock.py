"""The clock on the wall is set while a home runs: nobody is shut out, nothing waits for it."""

import asyncio
import json
import shutil
from pathlib import Path

import httpx
import pytest
from agents import at_stdio
from doors import free_port
from place import Place, until

from autopoll.home import credentials

pytestmark = pytest.mark.long

CLOCK = Path(__file__).parent.parent / "data" / "clock" / "sitecustomize.py"
CONFIG = """
[access]
token_lifetime = "{lifetime}"
[shards.main]
backend = "echo"
[shards.slow]
backend = "echo"
options = {{ delay = "2s" }}
[gateway]
enabled = true
listen = "127.0.0.1:{port}"
"""
HOUR_S = 3600
DAY_S = 24 * HOUR_S
MONTH_S = 31 * DAY_S
# Each from where the one before has left it; the last but one is what sets a wrong clock right.
SHIFTS_S = (MONTH_S, 32 * DAY_S, 400 * DAY_S, 0, -HOUR_S)


class Clocked:
    """A home with a gateway, whose clock on the wall can be set."""

    def __init__(self, make, lifetime: str = "30d") -> None:
        self.port = free_port()
        self.place: Place = make(CONFIG.format(lifetime=lifetime, port=self.port))
        self._folder = self.place.root / "clock"
        self._folder.mkdir()
        shutil.copy(CLOCK, self._folder)
        self.place.environ["PYTHONPATH"] = str(self._folder)

    def set(self, seconds: float) -> None:
        fresh = self._folder / "fresh"
        fresh.write_text(str(seconds))
        fresh.replace(self._folder / "shift")

    def own_token(self) -> str:
        kept = credentials.read(self.place.home)
        return kept.token(kept.shards["main"], "a")

    def rest(self, token: str) -> tuple[int, str]:
        """Ask over REST and return the status and the answer."""
        response = httpx.post(
            f"http://127.0.0.1:{self.port}/v1/questions",
            json={"question": "by REST?"},
            headers={"Authorization": f"Bearer {token}", "Prefer": "wait=20"},
            timeout=30,
        )
        return response.status_code, response.json().get("answer", response.text)

    def mcp(self) -> str:
        async def story() -> str:
            async with at_stdio(self.place) as agent:
                return str((await agent.get("ask", question="by MCP?"))["answer"])

        return asyncio.run(story())

    def is_open(self, token: str | None = None) -> None:
        """See that every front door lets the owner in, and that looking says so."""
        asked = self.place.ask("by the command line?")
        assert (asked["status"], asked["attempts"]) == ("answered", 1)
        assert self.rest(token or self.own_token()) == (200, "by REST?")
        assert self.mcp() == "by MCP?"
        assert self.place.json("health", "--deep")["verdict"] == "ok"


def test_whenever_the_clock_is_set_every_door_stays_open_and_a_lease_is_kept(new_place) -> None:
    home = Clocked(new_place)
    place = home.place
    place.run("up")
    first = place.ask("first?")["id"]
    token = home.own_token()
    pids = {name: place.pid(name) for name in ("poller", "worker", "watchdog", "gateway")}
    for shift in SHIFTS_S:
        asking = place.start_ask("in the middle of it?", "--shard", "slow")
        place.busy("worker-slow-1")
        home.set(shift)
        until(lambda: home.rest(token)[0] == 200, 10, "the own token to be renewed")
        out, err = asking.communicate(timeout=60)
        assert asking.returncode == 0, err
        assert json.loads(out)["attempts"] == 1
        if shift == MONTH_S:
            home.is_open(token)
    assert place.json("answer", str(first))["answer"] == "first?"
    status = place.json("status")
    assert status["ready"] and status["latency_ms"]["p50"] >= 0
    assert all(each["uptime_s"] >= 0 for each in status["processes"])
    assert home.own_token() == token, "nobody who was given it is shut out"
    assert {name: place.pid(name) for name in pids} == pids
    assert place.json_lines("incidents") == []


def test_after_a_month_without_a_home_the_owner_is_let_in_before_it_is_up(new_place) -> None:
    home = Clocked(new_place)
    place = home.place
    token, other = home.own_token(), place.json("conversations", "create")["tokens"]["a"]
    home.set(MONTH_S)
    asked = place.ask("still here?", "--no-wait")["id"]
    assert home.own_token() != token
    place.run("up")
    assert place.json("answer", str(asked))["answer"] == "still here?"
    assert home.mcp() == "by MCP?"
    assert home.rest(home.own_token()) == (200, "by REST?")
    assert home.rest(token)[0] == 401, "what has expired stays so"
    assert home.rest(other)[0] == 401


def test_a_life_that_is_shorter_than_a_second_keeps_the_owner_out_of_nothing(new_place) -> None:
    home = Clocked(new_place, "900ms")
    home.place.run("up")
    token = home.own_token()
    until(lambda: home.rest(token)[0] == 200, 10, "the own token to be renewed")
    home.set(30)
    home.is_open()
