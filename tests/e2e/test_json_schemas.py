"""Every command's `--json`, on a home that is up and then down, held to its schema."""

import json
import shlex
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bridge_calls import OWN, ask, claim, failed, settle, talk
from json_schemas import APART, RUNS, SCHEMAS
from jsonschema import validate
from place import Place

from autopoll.process.incident_log import record

CONFIG = """
[shards.main]
backend = "echo"
[shards.docs]
backend = "extract"
context = ["notes"]
"""


def path_of(line: str) -> str:
    """Return which command a line runs."""
    return max((path for path in SCHEMAS if f"{line} ".startswith(f"{path} ")), key=len)


def held(path: str, out: str) -> list[Any]:
    """Return what was printed, each line an object as its schema says."""
    found = [json.loads(line) for line in out.splitlines()]
    for each in found:
        validate(each, SCHEMAS[path])
    return found


@pytest.mark.long
def test_what_every_command_prints_is_as_its_schema_says(tmp_path: Path) -> None:
    root = tmp_path / "home"
    (root / "notes").mkdir(parents=True)
    (root / "notes" / "gate.md").write_text("# The gate\n\nThe gate opens at nine.\n")
    place = Place(root, CONFIG)
    known: dict[str, Any] = {"dead": dead_letter(place)}
    record(place.home.incidents, process="worker", verdict="dead", action="none", evidence="none")
    seen = set()
    try:
        for line in RUNS:
            path = path_of(line)
            done = place.run(*shlex.split(line.format(**known)), "--json", code=None)
            assert done.returncode in (0, 1, 2), f"{line}: {done.stderr}"
            found = held(path, done.stdout)
            if found or path not in seen:
                assert found, f"{line} has printed nothing: {done.stderr}"
            seen.add(path)
            note(known, path, found)
    finally:
        place.close()
    assert seen | APART == set(SCHEMAS)


def dead_letter(place: Place) -> int:
    """Leave two questions that have failed for good, and return the number of one."""
    with closing(place.bridge()) as bridge:
        conversation = talk(bridge, "docs")
        number, _ = ask(bridge, conversation, "one", "two", metadata=OWN)
        for each in claim(bridge, 2, "docs"):
            settle(bridge, failed(each, permanent=True))
    return number


def note(known: dict[str, Any], path: str, found: list[Any]) -> None:
    """Keep what later lines name."""
    if path == "ask":
        known["answered"] = found[0]["id"]
    elif path == "conversations create":
        known["conversation"] = found[0]["conversation"]
    elif path == "conversations list":
        known["own"] = found[0]["id"]


def test_a_copied_bridge_is_reported_as_its_schema_says(tmp_path: Path, database: str) -> None:
    place = Place(tmp_path / "home")
    try:
        source = f"sqlite:///{place.home.var / 'bridge.db'}"
        held("bridge copy", place.run("bridge", "copy", source, database, "--json").stdout)
    finally:
        place.state.cleanup()


@pytest.mark.long
def test_the_faults_are_reported_as_their_schema_says(tmp_path: Path) -> None:
    place = Place(tmp_path / "home")
    try:
        done = place.run("faults", "--json", timeout=280)
        assert held("faults", done.stdout)
    finally:
        place.state.cleanup()
