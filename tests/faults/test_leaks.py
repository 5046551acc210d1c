"""Leaking backends in a real home: drained and renewed; nothing left over, nothing lost."""

import json
from pathlib import Path

import pytest
from naughtiness import naughty_home
from place import until

from autopoll.process import incident_log

pytestmark = pytest.mark.long

LEAKS = {
    "main": "leak_descriptors",
    "memory": "leak_memory",
    "children": "leak_children",
}
CONFIG = """
[shards.main]
backend = "naughty"
[shards.memory]
backend = "naughty"
max_memory = "200MB"
[shards.children]
backend = "naughty"
"""
WORKERS = ["worker", "worker-memory-1", "worker-children-1"]
WORDS = ["400 descriptors open", "allowed are 200 MB", "processes started and living"]


def test_who_leaks_is_renewed_and_leaves_nothing_behind_and_no_question_is_lost(
    tmp_path: Path,
) -> None:
    with naughty_home(tmp_path, CONFIG) as place:
        place.run("up")
        before = [place.pid(name) for name in WORKERS]
        for shard, leak in LEAKS.items():
            place.ask(leak, "--shard", shard)

        def renewed() -> bool:
            found = {each.process: each for each in incident_log.read(place.home.incidents)}
            return all(name in found and found[name].recovered_ms is not None for name in WORKERS)

        lines = "\n".join(f"hello {number}" for number in range(20))
        questions = answers = 0
        while not renewed():
            for shard in LEAKS:
                done = place.run("ask", "-", "--lines", "--json", "--shard", shard, stdin=lines)
                questions += 20
                attempts = [json.loads(line)["attempts"] for line in done.stdout.splitlines()]
                answers += attempts.count(1)
        assert answers == questions > 0

        found = incident_log.read(place.home.incidents)
        assert sorted(each.process for each in found) == sorted(WORKERS)
        assert {(each.verdict, each.action) for each in found} == {("leak", "drained")}
        for name, words in zip(WORKERS, WORDS, strict=True):
            assert words in next(each.evidence for each in found if each.process == name)
        assert not set(before) & {place.pid(name) for name in WORKERS}
        until(lambda: len(place.processes()) == 5, what="all that was left behind to end")
