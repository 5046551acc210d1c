"""A home whose backend is tests/data/moody.py, and what its tests look at."""

import json
import sys
from pathlib import Path
from typing import Any

from place import Place, until

from autopoll.client.client import Client
from autopoll.home.config import load
from autopoll.process.heartbeat import Beat

MOODY = Path(__file__).parent.parent / "data" / "moody.py"
CONFIG = f"""
[shards.main]
backend = "command"
[shards.main.options]
command = ['{sys.executable}', '{MOODY}']
ready = true
concurrency = 4
"""


def set_mood(place: Place, mood: str) -> None:
    """Put the program into a mood; none means that the cause of all trouble is mended."""
    (place.root / "mood").write_text(mood)


def asked(place: Place) -> list[str]:
    """Return the questions that the program was asked, in their order."""
    path = place.root / "asked"
    return path.read_text().splitlines() if path.exists() else []


def shard(place: Place) -> dict[str, Any]:
    [only] = place.json("status", code=None)["shards"]
    return only


def incidents(place: Place, **fields: str) -> list[dict[str, Any]]:
    """Return the incidents with these fields."""
    lines = place.run("incidents", "--json").stdout.splitlines()
    found = [json.loads(line) for line in lines]
    return [each for each in found if fields.items() <= each.items()]


def held(place: Place) -> Beat | None:
    beat = place.beat("worker")
    return beat if beat and beat.state == "held" else None


def hold(place: Place) -> str:
    """Wait until the worker is held and return what it says."""
    return until(lambda: (beat := held(place)) and beat.note, 60, "the worker to be held")


def kept(place: Place, *questions: str) -> list[int]:
    """Store questions without waiting for the answers."""
    bridge = place.bridge()
    try:
        return Client(place.home, load(place.home, {}), bridge).ask(questions, "main").ids
    finally:
        bridge.close()


def states(place: Place, ids: list[int]) -> set[tuple[str, int]]:
    """Return in which states the questions are, and after how many attempts."""
    bridge = place.bridge()
    try:
        found = [bridge.messages.query_state(message_id) for message_id in ids]
    finally:
        bridge.close()
    return {(each.state, each.attempts) for each in found}


def answered(place: Place, ids: list[int], seconds: float = 60.0) -> None:
    """Wait until all are answered, each at its first attempt."""
    until(lambda: states(place, ids) == {("done", 1)}, seconds, f"answers to {ids}")
