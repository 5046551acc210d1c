"""Two homes on one PostgreSQL server, each with all its processes."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from place import Place, until

from autopoll.bridge.connect import connect_when_needed
from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.home.config import load

pytestmark = pytest.mark.early

SHARDS = '[shards.main]\nbackend = "echo"\n'


def join(root: Path, url: str, shards: str = SHARDS) -> Place:
    """Make a home by `init --bridge`, the url on stdin, for it may hold a password."""
    place = Place(root, None)
    place.run("init", str(root), "--bridge", "-", stdin=url)
    settings = place.home.config.read_text()
    bridge = settings[settings.index("[bridge]") :].partition("\n\n")[0]
    place.home.config.write_text(f"{shards}{bridge}\n")
    return place


@pytest.fixture
def homes(tmp_path: Path, database: str) -> Iterator[tuple[Place, Place]]:
    one = join(tmp_path / "one", database)
    two = join(tmp_path / "two", database, SHARDS.replace("echo", "extract") + 'context = ["x"]\n')
    (two.root / "x").write_text("The moon is far away: 384,400 km.\n")
    with one.running(), two.running():
        yield one, two


def supervisorctl(place: Place, *args: str) -> None:
    conf = str(place.home.supervisord_conf)
    subprocess.run(["supervisorctl", "-c", conf, *args], env=place.environ, check=True)


def times_to_answer(place: Place, rounds: int) -> list[float]:
    """Ask over the home's poller, again and again; return how long each question took."""
    config, times = load(place.home, {}), []
    with (
        closing(connect_when_needed(place.home, config)) as bridge,
        PollerConnection(place.home) as connection,
    ):
        client = Client(place.home, config, bridge)
        for _ in range(rounds):
            began = time.monotonic()
            asked = client.ask(["How far is the moon?"], "main", connection=connection)
            [result] = client.wait(asked.ids, connection, timeout=60)
            times.append(time.monotonic() - began)
            assert result.status == "answered"
            assert connection.is_open
    return times


@pytest.mark.long
def test_a_question_is_answered_by_the_home_that_can_and_its_asker_is_told_at_once(
    homes: tuple[Place, Place],
) -> None:
    one, two = homes
    shown = one.json_lines("hosts")
    assert [(each["folder"], each["alive"], each["shards"]) for each in shown] == [
        (str(one.root), True, ["main"]),
        (str(two.root), True, ["main"]),
    ]
    assert one.json("status")["hosts"][1]["folder"] == str(two.root)
    supervisorctl(one, "stop", "worker")  # so that only the other home has anybody to answer
    until(lambda: one.beat("worker") is None, what="the end of the worker")
    assert one.ask("How far is the moon?", timeout=60)["sources"] == ["x:1-1"]
    assert sorted(times_to_answer(one, 7))[3] < 0.5, "not by looks once a second, in both homes"

    # And what is asked while the one that asks has all it needs stays where it is.
    supervisorctl(one, "start", "worker")
    one.ready("worker")
    supervisorctl(two, "stop", "worker")
    until(lambda: two.beat("worker") is None, what="the end of the worker")
    assert two.ask("How far is the moon?", timeout=60)["answer"] == "How far is the moon?"

    two.down()
    assert [each["alive"] for each in one.json_lines("hosts")] == [True, False]
    assert one.ask("still there?")["answer"] == "still there?"


def test_a_copy_of_a_home_that_is_up_is_refused_with_the_mend(
    homes: tuple[Place, Place], tmp_path: Path
) -> None:
    one, _ = homes
    copied = tmp_path / "copy"
    shutil.copytree(one.root, copied, ignore=shutil.ignore_patterns("run", "lock", "log"))
    copy = Place(copied, None)
    try:
        (copied / "conf" / "supervisord.conf").unlink()
        copy.run("init", str(copied))
        refused = copy.run("poller", code=1, timeout=60)
        assert "home.id" in refused.stderr
        assert "autopoll:" in refused.stderr
        (copy.home.identity).unlink()
        starting = copy.start("poller")
        until(lambda: len(one.json_lines("hosts")) == 3, what="the copy as a home of its own")
        starting.terminate()
        starting.wait(timeout=30)
    finally:
        copy.close()


def test_a_server_without_a_schema_is_not_taken_for_a_bridge(tmp_path: Path, database: str) -> None:
    place = Place(tmp_path / "x", SHARDS)
    place.home.config.write_text(f"{SHARDS}[bridge]\nurl = {json.dumps(database)}\n")
    place.home.config.chmod(0o600)
    refused = place.run("hosts", code=2)
    assert "there is no bridge" in refused.stderr and "init --bridge" in refused.stderr
    place.close()
