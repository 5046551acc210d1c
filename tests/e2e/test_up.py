"""Bringing homes up: side by side, in odd places, by hand, and when something is wrong."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from place import ECHO, Place, until

pytestmark = pytest.mark.early

TREE = ["poller", "watchdog", "worker"]


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Place]]:
    """Two homes: one under a path with spaces and more, one under a long path."""
    folder = tmp_path_factory.mktemp("up")
    names = ("a home; with spaces #1 'and' more", "long/" + "x" * 120 + "/" + "y" * 100)
    one, two = (Place(folder / name) for name in names)
    with one.running(), two.running():
        yield one, two


@pytest.fixture
def pair(homes: tuple[Place, Place]) -> tuple[Place, Place]:
    """The two homes, up."""
    for home in homes:
        if home.names() != TREE:  # a test took it down
            home.down()
            home.run("up")
    return homes


def sockets(place: Place) -> list[Path]:
    """Return the sockets of a home under a long path, which lie elsewhere."""
    return [*Path(place.state.name).rglob("*.sock")]


def test_a_home_works_under_a_long_path_and_under_one_with_spaces(pair) -> None:
    for place in pair:
        assert place.ask("here?")["answer"] == "here?"
        assert place.json("health")["verdict"] == "ok"
        until(lambda place=place: supervisorctl(place, "status").stdout.count("RUNNING") == 3)


@pytest.mark.long
def test_plain_supervisorctl_stops_and_starts_a_program_and_the_watchdog_respects_it(pair) -> None:
    place, _ = pair
    assert "worker: stopped" in supervisorctl(place, "stop", "worker").stdout
    assert "STOPPED" in supervisorctl(place, "status", "worker").stdout
    looked = place.beat("watchdog")
    assert looked
    until(lambda: (b := place.beat("watchdog")) and b.loop_beat > looked.loop_beat + 3)
    assert place.names() == ["poller", "watchdog"]
    waiting = place.json("ask", "later?", "--no-wait")["id"]
    assert "worker: started" in supervisorctl(place, "start", "worker").stdout
    assert place.json("answer", str(waiting))["answer"] == "later?"
    assert "worker: started" in supervisorctl(place, "restart", "worker").stdout


def test_two_homes_live_side_by_side_and_know_nothing_of_each_other(pair) -> None:
    one, two = pair
    assert one.ask("first?")["answer"] == "first?"
    assert two.ask("second?")["answer"] == "second?"
    one.run("down")
    assert list(one.home.run.iterdir()) == []
    assert two.names() == TREE
    assert two.ask("still there?")["answer"] == "still there?"
    assert one.names() == []
    assert len(sockets(two)) == 1
    two.run("down")
    assert two.names() == []
    assert sockets(two) == []
    assert list(two.home.run.iterdir()) == []


def test_plain_supervisord_brings_a_home_up_too(new_place) -> None:
    place = new_place()
    supervisord = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", "conf/supervisord.conf"],
        cwd=place.root,
        env=place.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    place.ready(*TREE)
    assert place.ask("by hand?")["answer"] == "by hand?"
    supervisord.send_signal(signal.SIGTERM)
    assert supervisord.wait(60) == 0
    assert not place.processes()


@pytest.mark.long
def test_instances_and_shards_of_the_settings_become_workers(new_place) -> None:
    place = new_place(
        ECHO
        + 'instances = 2\n[shards.docs]\nbackend = "extract"\ncontext = ["docs"]\ninstances = 2\n'
    )
    (place.root / "docs").mkdir()
    (place.root / "docs" / "a.md").write_text("# Moon\n\nThe moon is made of stone.\n")
    place.run("up")
    names = {process["name"] for process in place.json("status")["processes"]}
    assert names == {*TREE, "worker-main-2", "worker-docs-1", "worker-docs-2"}
    assert place.ask("What is the moon made of?", "--shard", "docs")["sources"] == ["docs/a.md:1-3"]
    (place.root / "autopoll.toml").write_text(ECHO)
    place.run("restart")
    names = {process["name"] for process in place.json("status")["processes"]}
    assert names == set(TREE)


@pytest.mark.long
def test_an_instance_that_cannot_start_fails_up_with_its_reason_and_leaves_nothing(
    new_place,
) -> None:
    place = new_place()
    (place.root / "autopoll.toml").write_text(
        '[shards.main]\nbackend = "command"\n[shards.main.options]\nready = true\n'
        """command = ["sh", "-c", "echo no licence >&2; exit 1"]\n"""
    )
    failed = place.run("up", code=2)
    assert "worker does not start" in failed.stderr
    assert "no licence" in failed.stderr
    assert not place.processes()
    assert list(place.home.run.iterdir()) == []


@pytest.mark.long
def test_orphans_of_a_killed_worker_are_reaped_by_supervisord(new_place) -> None:
    place = new_place()
    (place.root / "autopoll.toml").write_text(
        '[shards.main]\nbackend = "command"\noptions = { command = ["sh", "-c", '
        '"setsid sh -c \'trap \\"\\" TERM; while :; do sleep 1; done\' & exec cat"] }\n'
    )
    place.run("up")
    worker = place.kill("worker")
    until(lambda: (beat := place.beat("worker")) and beat.pid != worker, 30)
    place.ready(*TREE)
    stubborn = [p for p in place.processes() if "trap" in " ".join(p.cmdline())]
    assert len(stubborn) == 1, "the one of the new worker, and not the orphan of the old"
    place.run("down")
    assert not place.processes()
    zombies = [p for p in psutil.process_iter(["status", "ppid"]) if p.info["ppid"] == os.getpid()]
    assert not [p for p in zombies if p.info["status"] == psutil.STATUS_ZOMBIE and "sh" in p.name()]


def supervisorctl(place: Place, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "supervisorctl", "-c", "conf/supervisord.conf", *args],
        cwd=place.root,
        env={name: value for name, value in place.environ.items() if name != "PATH"},
        capture_output=True,
        text=True,
        timeout=60,
    )
