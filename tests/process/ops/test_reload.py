"""A changed autopoll.toml is taken up exactly: what it does not concern goes on undisturbed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from place import Place, until

from autopoll.home import fingerprint
from autopoll.home.config import ShardSection, load
from autopoll.home.home import socket_path
from autopoll.process.supervisor_rpc import Supervisor

pytestmark = pytest.mark.early

GATED = Path(__file__).parents[2] / "data" / "gated.py"
MAIN = '[shards.main]\nbackend = "echo"\n'
SLOW = f"""
[shards.slow]
backend = "command"
[shards.slow.options]
command = ["{sys.executable}", "{GATED}"]
"""
EXTRA = '[shards.extra]\nbackend = "echo"\n'
MORE = '[shards.more]\nbackend = "echo"\n'
HOME = MAIN + SLOW + EXTRA
PROCESSES = ["poller", "watchdog", "worker", "worker-extra-1", "worker-slow-1"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("reload") / "home", HOME).running() as place:
        yield place


@pytest.fixture
def place(running: Place) -> Iterator[Place]:
    """The running home; what a test has changed is put back after it."""
    (running.root / "go").unlink(missing_ok=True)
    yield running
    settings(running, HOME)
    running.run("reload")
    running.ready(*PROCESSES)
    assert sorted(pids(running)) == PROCESSES


def settings(place: Place, text: str) -> None:
    (place.root / "autopoll.toml").write_text(text)


def pids(place: Place) -> dict[str, int]:
    """Return the processes that live, by name."""
    names = os.listdir(place.home.beats)
    return {name: beat.pid for name in names if (beat := place.beat(name))}


@pytest.mark.long
def test_a_slow_question_is_left_alone_while_another_shard_comes_changes_and_goes(place) -> None:
    incidents = place.run("incidents", "--json").stdout
    asking = place.start_ask("still there?", "--shard", "slow")
    busy = place.busy("worker-slow-1")
    before = pids(place)

    settings(place, HOME + MORE)
    done = place.json("reload")
    assert (done["added"], done["unchanged"]) == (["more"], ["main", "slow", "extra"])
    assert done["poller"] == "in place"
    assert place.ask("new?", "--shard", "more")["answer"] == "new?"

    first = place.pid("worker-more-1")
    settings(place, HOME + MORE + "max_requests = 1000\ninstances = 2\n")
    done = place.json("reload")
    assert (done["changed"], done["unchanged"]) == (["more"], ["main", "slow", "extra"])
    assert place.pid("worker-more-1") != first
    assert place.beat("worker-more-2")
    assert place.ask("changed?", "--shard", "more")["answer"] == "changed?"

    settings(place, HOME)
    done = place.json("reload")
    assert (done["removed"], done["unchanged"]) == (["more"], ["main", "slow", "extra"])

    assert pids(place) == before
    now = place.beat("worker-slow-1")
    assert (now.request_id, now.request_start) == (busy.request_id, busy.request_start)
    (place.root / "go").touch()
    out, _ = asking.communicate(timeout=30)
    answer = json.loads(out)
    assert (answer["answer"], answer["attempts"]) == ("still there?", 1)
    assert sorted(os.listdir(place.home.workers)) == ["worker", "worker-extra-1", "worker-slow-1"]
    assert place.run("incidents", "--json").stdout == incidents


def test_shard_main_is_reloaded_as_exactly_as_the_others(place) -> None:
    assert place.json("reload")["unchanged"] == ["main", "slow", "extra"]
    before = pids(place)
    settings(place, MAIN + "max_age = '1h'\n" + SLOW + EXTRA)
    done = place.json("reload")
    assert (done["changed"], done["unchanged"]) == (["main"], ["slow", "extra"])
    after = pids(place)
    assert [name for name in before if after[name] != before[name]] == ["worker"]
    done = place.json("reload")
    assert (done["changed"], done["poller"]) == ([], "unchanged")
    assert pids(place) == after


def test_what_only_the_poller_looks_at_starts_no_process_anew(place) -> None:
    before = pids(place)
    with_time_out = SLOW.replace(
        "\n[shards.slow.options]", '\nrequest_timeout = "1s"\n[shards.slow.options]'
    )
    delivery = '[delivery]\nmax_attempts = 5\nvisibility_timeout = "30s"\n'
    settings(place, MAIN + with_time_out + EXTRA + delivery)
    done = place.json("reload")
    assert (done["changed"], done["poller"]) == ([], "in place")
    assert pids(place) == before
    [mine] = [each for each in place.json("status")["shards"] if each["name"] == "slow"]
    assert mine["ready"] == 1
    failed = place.beat("worker-slow-1").failed
    number = place.json("ask", "x", "--shard", "slow", "--timeout", "100ms", code=5)["id"]
    place.busy("worker-slow-1")
    until(lambda: (b := place.beat("worker-slow-1")) and b.failed > failed, 20, "the new time-out")
    (place.root / "go").touch()
    assert place.json("answer", str(number))["answer"] == "x"


def test_new_settings_of_the_bridge_start_the_poller_anew_and_nothing_else(place) -> None:
    incidents = place.run("incidents", "--json").stdout
    before = pids(place)
    settings(place, HOME + "[delivery]\nmax_attempts = 2\n[access]\nrate_burst = 7\n")
    assert place.json("reload")["poller"] == "restarted"
    after = pids(place)
    assert [name for name in before if after[name] != before[name]] == ["poller"]
    assert place.ask("and now?")["answer"] == "and now?"
    assert place.run("incidents", "--json").stdout == incidents


BROKEN = {
    "syntax": "[shards.main\n",
    "an unknown key": MAIN + "instanses = 2\n",
    "an impossible value": MAIN + "instances = 0\n",
    "no shard main": EXTRA,
    "an unknown backend": MAIN + '[shards.x]\nbackend = "oracle"\n',
    "a missing context": MAIN + '[shards.x]\nbackend = "extract"\ncontext = ["nowhere"]\n',
    "the home's own files": MAIN + '[shards.x]\nbackend = "extract"\ncontext = ["var"]\n',
    "an unknown option": MAIN + '[shards.x]\nbackend = "echo"\noptions = {dely = "1s"}\n',
    "a bad name": MAIN + '[shards."../x"]\nbackend = "echo"\n',
    "a wrong type": "shards = 3\n",
    "nothing": "",
}


def test_a_broken_file_changes_nothing(place) -> None:
    before = {name: place.beat(name).settings for name in pids(place)}, pids(place)
    files = sorted(place.home.program_files.iterdir())
    for what, text in BROKEN.items():
        settings(place, text)
        told = place.run("reload", "--json", code=4)
        assert json.loads(told.stderr)["error"], what
        assert ({name: place.beat(name).settings for name in before[0]}, pids(place)) == before
        assert sorted(place.home.program_files.iterdir()) == files, what
    (place.root / "autopoll.toml").write_bytes(b"\xff\xfe")
    place.run("reload", code=4)
    settings(place, HOME)
    assert place.json("reload")["poller"] == "unchanged"


@pytest.mark.long
def test_no_question_is_lost_when_the_settings_change_under_a_storm_of_them(new_place) -> None:
    place = new_place(MAIN + EXTRA)
    place.run("up")
    questions = [f"question {number}" for number in range(300)]
    asking = [
        subprocess.Popen(
            [*place.command, "ask", "--lines", "--json", "--shard", shard],
            cwd=place.root,
            env=place.environ,
            stdin=subprocess.PIPE,
            stdout=(place.root / f"{shard}.out").open("w"),
            text=True,
        )
        for shard in ("main", "extra")
    ]
    for process in asking:
        assert process.stdin
        process.stdin.write("\n".join(questions))
        process.stdin.close()
    text = MAIN + EXTRA
    for round_ in range(1, 3):
        settings(
            place, text + f"max_requests = {1000 + round_}\n[shards.other]\nbackend = 'echo'\n"
        )
        assert place.json("reload")["added"] == ["other"]
        settings(
            place, text + f"instances = {round_ % 2 + 1}\n[delivery]\nmax_attempts = {5 + round_}\n"
        )
        done = place.json("reload")
        assert (done["removed"], done["poller"]) == (["other"], "restarted")
    for process, shard in zip(asking, ("main", "extra"), strict=True):
        assert process.wait(100) == 0
        lines = [json.loads(line) for line in (place.root / f"{shard}.out").open()]
        assert [line["answer"] for line in lines] == questions


@pytest.mark.parametrize("moment", ["tokens", "program", "process"])
def test_a_reload_that_is_killed_is_completed_by_the_next(place, moment: str) -> None:
    shard = f"new-{moment}"  # another each time, for credentials stay when a shard goes
    settings(place, f'{HOME}[shards.{shard}]\nbackend = "echo"\n')
    seen = {
        "tokens": lambda: f'"{shard}"' in place.home.credentials.read_text(),
        "program": lambda: (place.home.program_files / f"{shard}.conf").exists(),
        "process": lambda: (place.home.beats / f"worker-{shard}-1").exists(),
    }[moment]
    reloading = place.start("reload")
    until(seen, 30, moment)
    reloading.kill()
    reloading.communicate()
    place.run("reload")
    assert place.ask("x", "--shard", shard)["answer"] == "x"
    assert place.json("reload")["poller"] == "unchanged"


@pytest.mark.long
def test_a_worker_that_does_not_start_with_its_new_settings_is_named_and_mended(place) -> None:
    dying = 'backend = "command"\noptions = {command = ["false"], ready = true}\n'
    settings(place, f"{MAIN}{SLOW}[shards.extra]\n{dying}")
    before = place.pid("worker")
    told = place.run("reload", code=2)
    assert "worker-extra-1 does not start" in told.stderr
    assert place.ask("x")["answer"] == "x"
    settings(place, HOME)
    assert place.json("reload")["changed"] == ["extra"]
    assert place.ask("x", "--shard", "extra")["answer"] == "x"
    assert place.pid("worker") == before


def test_a_worker_that_an_operator_stopped_stays_stopped(place) -> None:
    supervisor = Supervisor(socket_path(place.home))
    supervisor.stop("worker-extra-1", wait=True)
    settings(place, HOME + "max_requests = 9\n")
    place.run("reload")
    assert supervisor.process("worker-extra-1").state == "STOPPED"
    place.run("restart", "worker-extra-1")


@pytest.mark.long
def test_questions_for_a_shard_that_is_gone_are_kept_and_told(place) -> None:
    short = '[delivery]\ndrain_timeout = "1s"\n'
    settings(place, HOME + short)
    place.run("reload")
    ids = [place.ask(text, "--shard", "slow", "--no-wait")["id"] for text in ("one?", "two?")]
    place.busy("worker-slow-1")
    settings(place, MAIN + EXTRA + short)
    assert place.json("reload")["waiting"] == {"slow": 2}
    (place.root / "go").touch()
    settings(place, HOME + short)
    assert place.json("reload")["added"] == ["slow"]
    for number in ids:
        assert place.json("answer", str(number))["status"] == "answered"


def test_a_home_that_is_down_is_told_so_and_its_settings_are_checked(new_place) -> None:
    place = new_place(MAIN)
    told = place.run("reload", code=2)
    assert "is down; the settings are good" in told.stderr
    settings(place, MAIN + "instanses = 1\n")
    assert "instanses" in place.run("reload", code=4).stderr
    settings(place, MAIN)


@pytest.mark.long
def test_nothing_is_touched_while_supervisord_is_hung(place) -> None:
    files = sorted(place.home.program_files.iterdir())
    for name in ("poller", "watchdog"):  # which would let it go on
        place.kill(name, signal.SIGSTOP)
    os.kill(place.supervisord(), signal.SIGSTOP)
    try:
        settings(place, HOME + MORE)
        place.run("reload", code=3)
        assert sorted(place.home.program_files.iterdir()) == files
    finally:
        os.kill(place.supervisord(), signal.SIGCONT)
        for name in ("watchdog", "poller"):
            place.kill(name, signal.SIGCONT)
    assert place.json("reload")["added"] == ["more"]


@pytest.mark.long
def test_the_settings_are_read_as_the_running_processes_read_them(new_place) -> None:
    place = new_place(MAIN)
    place.environ["AUTOPOLL_SHARDS__MAIN__INSTANCES"] = "2"
    place.run("up")
    del place.environ["AUTOPOLL_SHARDS__MAIN__INSTANCES"]
    assert place.json("reload")["unchanged"] == ["main"]
    assert place.beat("worker-main-2")


def test_each_setting_of_a_shard_is_known_to_concern_its_worker_or_not(new_place) -> None:
    place = new_place(MAIN)
    config = load(place.home, {})
    before = fingerprint.of_worker(config, "main")
    concerns = {"backend", "context", "max_age", "max_requests", "options"}
    assert concerns | fingerprint.ELSEWHERE == set(ShardSection.__struct_fields__)
    for text, same in (
        ("request_timeout = '9s'", True),
        ("instances = 2", True),
        ("max_memory = '1GB'", True),
        ("max_age = '9h'", False),
        ("context = ['conf']", False),
        ("options = {delay = '1s'}", False),
    ):
        settings(place, f"{MAIN}{text}\n")
        assert (fingerprint.of_worker(load(place.home, {}), "main") == before) is same, text


@pytest.mark.long
def test_the_gateway_comes_knows_new_shards_and_goes(place) -> None:
    gateway = '[gateway]\nenabled = true\nlisten = "unix:var/run/gateway.sock"\n'
    before = pids(place)
    settings(place, HOME + gateway)
    assert place.json("reload")["gateway"] == "added"
    first = place.pid("gateway")
    settings(place, HOME + gateway + MORE)
    done = place.json("reload")
    assert (done["gateway"], done["added"]) == ("restarted", ["more"])
    assert place.pid("gateway") != first
    settings(place, HOME)
    done = place.json("reload")
    assert (done["gateway"], done["removed"]) == ("removed", ["more"])
    assert pids(place) == before


@pytest.mark.long
def test_a_poller_that_is_told_by_hand_lets_who_is_not_wanted_finish(place) -> None:
    asking = place.start_ask("still there?", "--shard", "slow")
    place.busy("worker-slow-1")
    before = place.beat("poller")
    settings(place, MAIN + EXTRA)
    place.kill("poller", signal.SIGHUP)
    until(lambda: place.beat("poller").settings != before.settings, 20, "the new settings")
    rounds = place.beat("poller").loop_beat + 2.0  # it looks once a second whom to let go
    until(lambda: place.beat("poller").loop_beat > rounds, 20, "two rounds of the poller")
    (place.root / "go").touch()
    out, err = asking.communicate(timeout=30)
    assert asking.returncode == 0, err
    assert json.loads(out)["attempts"] == 1
    assert place.json("reload")["removed"] == ["slow"]
    assert place.beat("poller").is_of_same_process(before)
    assert sorted(os.listdir(place.home.workers)) == ["worker", "worker-extra-1"]
