"""Two commands that change one home at the same time: as if one came after the other."""

import subprocess
import sys
import time
from pathlib import Path

import commands
import pytest
from place import Place, until

from autopoll.home.config import load
from autopoll.home.lock import holder_of
from autopoll.ops.change_lock import changing

pytestmark = pytest.mark.early

# Answers when it is let, and may take its time to drain.
GATED = f"""
[delivery]
drain_timeout = "24s"
[shards.main]
backend = "command"
[shards.main.options]
command = ["{sys.executable}", "{Path(__file__).parents[1] / "data" / "gated.py"}"]
"""
TREE = ["poller", "watchdog", "worker"]
COMMANDS = {
    "up": ["up"],
    "down": ["down"],
    "restart": ["restart"],
    "restart worker": ["restart", "worker"],
    "reload": ["reload"],
    "add": ["shards", "add", "more", "--backend", "echo"],
    "remove": ["shards", "remove", "more"],
}
DELAYS_S = (0.0, 0.05, 0.3)
State = tuple[bool, bool]  # whether it is up, whether shard more is there


def after(name: str, state: State) -> tuple[State, set[int]]:
    """Return what a command makes of a home, and with which exit codes."""
    up, more = state
    match name:
        case "up":
            return (True, more), {0, 1} if up else {0}  # 1: it was up already
        case "down":
            return (False, more), {0}
        case "restart":
            return (True, more), {0}
        case "restart worker":
            return state, {0} if up else {3}
        case "reload":
            return state, {0} if up else {2}
        case "add":
            return (up, True), {0}
    return (up, False), {0} if more else {2}


def start(place: Place, name: str) -> "commands.Forked | subprocess.Popen[str]":
    return place.start(*COMMANDS[name])


def state_of(place: Place) -> State:
    up = holder_of(place.home.supervisord_lock) is not None
    return up, "more" in load(place.home, {}).shards


def run_pair(place: Place, first: str, second: str, delay: float) -> None:
    """Run two commands, so far apart, and see that some order of them explains what came out."""
    before = state_of(place)
    one = start(place, first)
    time.sleep(delay)  # what is tried here
    two = start(place, second)
    said = [each.communicate(timeout=300) for each in (one, two)]
    explained = False
    for names, codes in (
        ((first, second), (one.returncode, two.returncode)),
        ((second, first), (two.returncode, one.returncode)),
    ):
        middle, expected = after(names[0], before)
        end, later = after(names[1], middle)
        explained |= codes[0] in expected and codes[1] in later and end == state_of(place)
    told = f"{first} | {second}, {delay} s apart, on {before}: {state_of(place)}, {said}"
    assert explained, told
    assert not any("Traceback" in err or "bug" in err for _, err in said), told
    assert_whole(place, told)


def assert_whole(place: Place, told: str) -> None:
    """All of it is there once and answers, or nothing is."""
    assert holder_of(place.home.change_lock) is None, told
    up, more = state_of(place)
    if not up:
        assert not place.processes(), told
        left = [path for path in place.home.run.rglob("*") if not path.is_dir()]
        assert left == [], told  # whoever takes a turn makes the folders
        assert place.run("health", code=2).stdout, told
        return
    until(lambda: place.names() == sorted(TREE + ["worker"] * more), what=told)
    assert place.json("health")["verdict"] == "ok", told
    shards = ["main", "more"] if more else ["main"]
    for shard in shards:
        assert place.ask("there?", "--shard", shard)["answer"] == "there?", told


@pytest.mark.long
def test_three_that_bring_a_home_up_bring_it_up_once(new_place) -> None:
    place = new_place()
    ups = [start(place, "up") for _ in range(3)]
    said = [each.communicate(timeout=200) for each in ups]
    assert [each.returncode for each in ups] == [0, 0, 0], said
    others = [out for out, _ in said if "started by another command, as process" in out]
    assert len(others) == 2, said
    assert all(str(place.supervisord()) in out for out in others)
    assert_whole(place, str(said))
    again = place.run("up", code=1)
    assert f"is up already (supervisord is process {place.supervisord()})" in again.stderr
    run_pair(place, "add", "reload", 0.05)
    run_pair(place, "up", "down", 0)


@pytest.mark.long
def test_who_fails_to_bring_a_home_up_leaves_alone_what_another_has_started(new_place) -> None:
    place = new_place()
    foreground = subprocess.Popen(
        [*place.command, "up", "--foreground"],
        cwd=place.root,
        env=place.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: holder_of(place.home.supervisord_lock) == foreground.pid)
    said = place.run("up").stdout
    assert f"(started by another command, as process {foreground.pid})" in said
    second = place.run("up", "--foreground", code=1)
    assert "is up already" in second.stderr
    assert_whole(place, said)
    run_pair(place, "restart", "restart worker", 0.3)
    assert foreground.wait(20) == 0


@pytest.mark.long
def test_a_home_that_is_shut_down_by_hand_is_said_to_go_down_and_comes_up_after_it(
    new_place,
) -> None:
    place = new_place(GATED)
    place.run("up")
    old = place.supervisord()
    asking = place.start_ask("in flight?")
    place.busy("worker")
    shut = subprocess.run(
        ["supervisorctl", "-c", str(place.home.supervisord_conf), "shutdown"],
        env=place.environ,
        cwd=place.root,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert shut.returncode == 0, shut
    now = place.json("status", code=2)
    assert (now["supervisord"], now["ready"]) == ("stopping", False)
    checks = {each["name"]: each for each in place.json("health", code=2)["checks"]}
    assert "is going down" in checks["supervisord"]["detail"]
    coming = start(place, "up")
    until(lambda: holder_of(place.home.change_lock) == coming.pid)
    assert place.supervisord() == old
    (place.root / "go").touch()
    assert "is up: main ready" in coming.communicate(timeout=120)[0]
    assert place.supervisord() != old
    assert asking.communicate(timeout=60)[0]
    assert place.json("health")["verdict"] == "ok"


def test_a_home_that_is_just_starting_is_not_taken_for_hung(new_place) -> None:
    place = new_place()
    with changing(place.home, "autopoll up", print):  # as `up` has it until all is ready
        assert place.json("status", code=1)["supervisord"] == "starting"
    coming = start(place, "up")
    seen = set()
    while coming.poll() is None:
        seen.add(place.json("status", code=None)["supervisord"])
    assert coming.wait() == 0
    assert seen <= {"down", "starting", "running"}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", COMMANDS)
def test_every_pair_of_commands_ends_as_one_after_the_other(new_place, first: str) -> None:
    place = new_place()
    # The delays go round, so that each command meets each of them.
    for number, second in enumerate(COMMANDS, list(COMMANDS).index(first)):
        run_pair(place, first, second, DELAYS_S[number % 3])
