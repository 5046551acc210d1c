"""Shards come, go and are tried by one command each, and no other shard notices."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from mock_api import MockApi
from place import Place, until

pytestmark = pytest.mark.early

DATA = Path(__file__).parents[2] / "data"
HOME = f"""\
# Our agents.
[shards.main]   # the first
backend = "echo"

# Answers when it is let.
[shards.slow]
backend = "command"
[shards.slow.options]
command = ["{sys.executable}", "{DATA / "gated.py"}"]   # the program

[delivery]
drain_timeout = "2s"   # short
max_attempts = 2
"""
SAYS_NO = (
    "import sys, json\n"
    "for line in sys.stdin:\n"
    "    print(json.dumps({'id': json.loads(line)['id'], 'error': 'I know nothing'}), flush=True)\n"
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("shards") / "home", HOME)
    (place.root / "notes.md").write_text("# Moon\n\nThe moon is 384,400 km away.\n")
    (place.root / "no.py").write_text(SAYS_NO)
    with place.running():
        yield place


@pytest.fixture
def place(running: Place) -> Iterator[Place]:
    """The running home, which must be afterwards as it was before."""
    if text(running) != HOME or shard_files(running):  # the test before has failed
        (running.root / "autopoll.toml").write_text(HOME)
        shutil.rmtree(running.home.shard_files, ignore_errors=True)
        running.run("reload")
    (running.root / "go").unlink(missing_ok=True)
    before = pids(running)
    yield running
    assert text(running) == HOME
    assert shard_files(running) == []
    assert pids(running) == before
    assert sorted(os.listdir(running.home.program_files)) == ["slow.conf"]
    assert sorted(os.listdir(running.home.workers)) == ["worker", "worker-slow-1"]
    assert not [name for name in os.listdir(running.root) if name.startswith(".autopoll.toml")]


def text(place: Place) -> str:
    return (place.root / "autopoll.toml").read_text()


def shard_files(place: Place) -> list[str]:
    folder = place.home.shard_files
    return sorted(os.listdir(folder)) if folder.exists() else []


def pids(place: Place) -> dict[str, int]:
    return {name: beat.pid for name in os.listdir(place.home.beats) if (beat := place.beat(name))}


@pytest.mark.long
def test_a_shard_comes_answers_and_goes_while_another_is_in_the_middle_of_a_question(place) -> None:
    asking = place.start_ask("still there?", "--shard", "slow")
    busy = place.busy("worker-slow-1")
    add = ["shards", "add", "notes", "--backend", "extract", "--context", "notes.md"]
    added = place.json(*add, "--max-age", "1h", "--option", "passages=1")
    assert (added["new"], added["running"], added["trial"]["ok"]) == (True, True, True)
    steps = [step["name"] for step in added["trial"]["steps"]]
    assert steps == ["settings", "context", "start", "canary"]
    assert added["trial"]["context"]["files"] == 1
    assert text(place) == HOME and shard_files(place) == ["notes.toml"]
    assert tomllib.loads((place.home.shard_files / "notes.toml").read_text()) == {
        "backend": "extract",
        "context": ["notes.md"],
        "max_age": "1h",
        "options": {"passages": 1},
    }
    assert place.ask("How far is the moon?", "--shard", "notes")["sources"] == ["notes.md:1-3"]

    again = place.json(*add, "--max-age", "60m", "--option", "passages=1")
    assert not again["new"]
    told = place.run(*add, "--max-age", "2h", code=4)
    assert "already, with other settings" in told.stderr
    assert f"Change them in {place.home.shard_files / 'notes.toml'} and run" in told.stderr

    assert place.json("shards", "remove", "notes")["given_up"] == 0
    now = place.beat("worker-slow-1")
    assert (now.pid, now.request_start) == (busy.pid, busy.request_start)
    (place.root / "go").touch()
    out, _ = asking.communicate(timeout=30)
    assert (json.loads(out)["answer"], json.loads(out)["attempts"]) == (
        "still there?",
        1,
    )
    (place.root / "go").unlink()


def command(*words: str) -> list[str]:
    """Return what names a program for the backend `command`."""
    return ["--backend", "command", "--option", f"command={json.dumps(words)}"]


GATED = command(sys.executable, str(DATA / "gated.py"))
FAILING = {
    "settings": ("configuration", "there is no backend", ["--backend", "oracle"]),
    "settings of it": (
        "configuration",
        "unknown key",
        ["--backend", "echo", "--option", "x=1"],
    ),
    "context": ("configuration", "holds no text", ["--backend", "echo", "--context", "empty"]),
    "start": ("broken", "with code 1", [*command("false"), "--option", "ready=true"]),
    "canary": ("permanent", "I know nothing", command(sys.executable, "no.py")),
    "canary paused": ("quota", "no quota", command(sys.executable, str(DATA / "moody.py"))),
}


@pytest.mark.long
@pytest.mark.parametrize("step", FAILING)
def test_a_step_that_fails_is_named_and_nothing_of_the_shard_is_left(place, step: str) -> None:
    (place.root / "empty").mkdir(exist_ok=True)
    (place.root / "mood").write_text("quota 600000")
    kind, why, how = FAILING[step]
    told = place.run("shards", "add", "new", *how, code=None)
    assert told.returncode != 0
    assert f"step {step.split()[0]} failed ({kind})" in told.stderr and why in told.stderr
    assert "waiting" not in place.run("reload").stdout
    bridge = place.bridge()
    try:
        assert "new" not in bridge.conversations.routes().values()
        assert not bridge.overview.waiting()
    finally:
        bridge.close()
    assert place.run("dead", "list", "--json").stdout == ""


def test_a_shard_that_fails_is_kept_when_that_is_asked_for(place) -> None:
    told = place.run("shards", "add", "new", *command(sys.executable, "no.py"), "--keep", code=1)
    assert "it is kept, as asked" in told.stderr
    assert place.beat("worker-new-1")
    place.run("shards", "remove", "new")


@pytest.mark.long
def test_an_interrupt_takes_the_shard_out_again(place) -> None:
    adding = place.start("shards", "add", "new", *GATED)
    place.ready("worker-new-1")
    place.busy("worker-new-1")
    adding.send_signal(signal.SIGTERM)
    _, err = adding.communicate(timeout=60)
    assert adding.returncode == 130 and "Traceback" not in err


@pytest.mark.long
def test_two_shards_at_once_both_come(place) -> None:
    adding = [place.start("shards", "add", name, "--backend", "echo") for name in ("one", "two")]
    for process in adding:
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
    for name in ("one", "two"):
        assert place.ask("x", "--shard", name)["answer"] == "x"
        place.run("shards", "remove", name)


@pytest.mark.long
@pytest.mark.parametrize("moment", ["written", "program", "process"])
def test_an_add_that_is_killed_is_completed_by_a_reload(place, moment: str) -> None:
    seen = {
        "written": lambda: shard_files(place) == ["new.toml"],
        "program": lambda: (place.home.program_files / "new.conf").exists(),
        "process": lambda: place.beat("worker-new-1"),
    }[moment]
    adding = place.start("shards", "add", "new", "--backend", "echo")
    until(seen, 30, moment)
    adding.kill()
    adding.communicate()
    place.run("reload")
    assert place.ask("x", "--shard", "new")["answer"] == "x"
    place.run("shards", "remove", "new")


@pytest.mark.long
def test_a_removal_that_is_killed_is_completed_by_the_next(place) -> None:
    place.run("shards", "add", "new", "--backend", "echo")
    removing = place.start("shards", "remove", "new")
    until(lambda: not shard_files(place), 30, "the file to go")
    removing.kill()
    removing.communicate()
    place.run("reload")
    place.run("shards", "remove", "new", code=2)


def test_changes_of_others_are_not_applied_on_the_way(place) -> None:
    (place.root / "autopoll.toml").write_text(HOME.replace("max_attempts = 2", "max_attempts = 3"))
    try:
        for command in (["add", "new", "--backend", "echo"], ["remove", "slow"]):
            told = place.run("shards", *command, code=4)
            assert "do not run yet" in told.stderr and "autopoll reload" in told.stderr
    finally:
        (place.root / "autopoll.toml").write_text(HOME)


@pytest.mark.long
def test_a_shard_for_which_questions_wait_is_removed_only_by_force(place) -> None:
    (place.root / "go").touch()
    place.run("shards", "add", "new", *GATED)
    (place.root / "go").unlink()
    ids = [place.ask(each, "--shard", "new", "--no-wait")["id"] for each in ("one?", "two?")]
    place.busy("worker-new-1")
    told = place.run("shards", "remove", "new", code=1)
    assert "2 questions wait for shard new" in told.stderr and "--force" in told.stderr
    assert place.beat("worker-new-1")
    assert place.json("shards", "remove", "new", "--force")["given_up"] == 2
    for number in ids:
        result = place.json("answer", str(number), code=1)
        assert "was removed" in result["answer"]
    dead = place.json_lines("dead", "list")
    assert [letter["message_id"] for letter in dead] == ids
    for letter in dead:
        place.run("dead", "drop", str(letter["message_id"]))


@pytest.mark.long
def test_the_history_stays_and_the_next_shard_of_that_name_takes_it_up(place) -> None:
    place.run("shards", "add", "new", "--backend", "echo")
    place.ask("remember me", "--shard", "new")
    kept = json.loads(place.home.credentials.read_text())["shards"]["new"]
    place.run("shards", "remove", "new")
    place.run("shards", "add", "new", "--backend", "echo", "--instances", "2")
    assert json.loads(place.home.credentials.read_text())["shards"]["new"] == kept
    assert "remember me" in place.run("messages", "--conversation", kept, "--json").stdout
    place.run("shards", "remove", "new")


UGLY_ADDS = {
    "no name at all": ([""], 4),
    "a path as its name": (["../x"], 4),
    "capitals": (["Main"], 4),
    "a name of another alphabet": (["история"], 4),
    "a name that is too long": (["x" * 33], 4),
    "main with other settings": (["main", "--instances", "2"], 4),
    "a context that is not there": (["x", "--context", "nowhere.md"], 4),
    "a context that is empty": (["x", "--context", ""], 4),
    "a context with a long name": (["x", "--context", "y" * 5000], 4),
    "the home's own files": (["x", "--context", "var"], 4),
    "a way out to nothing": (["x", "--context", "../../../../../../nowhere/passwd"], 4),
    "an option without =": (["x", "--option", "delay"], 4),
    "an option without a key": (["x", "--option", "=1"], 4),
    "an option twice": (["x", "--option", "delay=1s", "--option", "delay=2s"], 4),
    "an option that injects a table": (["x", "--option", "delay=1\n[bridge]\nurl = 'x'"], 4),
    "an unknown option": (["x", "--option", "ünknown=1"], 4),
    "too many instances": (["x", "--instances", "65"], 4),
    "a huge time": (["x", "--request-timeout", "99999999999d"], 4),
    "a time without a unit": (["x", "--request-timeout", "5"], 4),
    "a huge number": (["x", "--option", f"concurrency={10**30}"], 4),
    "a key file that is not there": (["x", "--key-file", "nokey"], 4),
    "a size that is none": (["x", "--max-memory", "lots"], 4),
}


@pytest.mark.parametrize("what", UGLY_ADDS)
def test_what_cannot_be_added_is_refused_before_anything_is_written(place, what: str) -> None:
    args, code = UGLY_ADDS[what]
    told = place.run("shards", "add", *args, "--backend", "echo", "--json", code=code)
    assert json.loads(told.stderr)["error"]
    assert told.stdout == ""


def test_what_cannot_be_removed_or_tried_is_refused(place) -> None:
    names = ("nope", "", "../slow", "slow,main", "SLOW", "слово", "x" * 5000, "worker-slow-1")
    for name in names:
        assert "there is no shard" in place.run("shards", "remove", name, code=2).stderr
    told = place.run("shards", "test", "main", *names, code=2)
    assert "there is no shard 'nope', '', '../slow'" in told.stderr and told.stdout == ""
    assert "every home has it" in place.run("shards", "remove", "main", "--force", code=4).stderr
    place.run("shards", "remove", code=4)
    place.run("shards", "add", code=4)
    place.run("shards", "add", "x", code=4)
    place.run("shards", "nonsense", code=4)


def test_a_file_that_may_not_be_written_is_left_alone_and_its_shard_goes_on(place) -> None:
    path = place.root / "autopoll.toml"
    path.chmod(0o400)
    (place.root / "go").touch()
    try:
        assert "is read-only" in place.run("shards", "remove", "slow", code=4).stderr
        assert place.ask("still there?", "--shard", "slow")["answer"] == "still there?"
        place.run("shards", "add", "new", "--backend", "echo")
        place.run("shards", "remove", "new")
    finally:
        path.chmod(0o600)


def test_a_folder_that_may_not_be_written_is_left_alone(new_place) -> None:
    place = new_place().be_ordinary()
    folder = place.home.shard_files
    folder.mkdir(mode=0o700)
    place.run("shards", "add", "old", "--backend", "echo")
    folder.chmod(0o500)
    add = place.run("shards", "add", "new", "--backend", "echo", code=4)
    assert f"{folder / 'new.toml'} cannot be written: Permission denied" in add.stderr
    remove = place.run("shards", "remove", "old", code=4)
    assert f"{folder / 'old.toml'} cannot be removed: Permission denied" in remove.stderr
    assert os.listdir(folder) == ["old.toml"]
    folder.chmod(0o700)
    place.run("shards", "remove", "old")


@pytest.mark.long
def test_nothing_is_written_while_supervisord_is_hung(place) -> None:
    for name in ("poller", "watchdog"):  # which would let it go on
        place.kill(name, signal.SIGSTOP)
    os.kill(place.supervisord(), signal.SIGSTOP)
    try:
        for command in (["add", "new", "--backend", "echo"], ["remove", "slow"], ["test"]):
            place.run("shards", *command, code=3)
    finally:
        os.kill(place.supervisord(), signal.SIGCONT)
        for name in ("watchdog", "poller"):
            place.kill(name, signal.SIGCONT)


@pytest.mark.long
def test_a_model_is_added_with_its_share_of_the_window_and_told_what_it_cost(place) -> None:
    with MockApi() as api:
        key = place.root / "key"
        key.write_text("sk-ant-" + "0" * 40)
        key.chmod(0o600)
        add = [
            "shards", "add", "model", "--backend", "anthropic", "--model", "claude-haiku-4-5",
            "--context", "notes.md", "--key-file", "key", "--option", f"base_url={api.url}",
        ]  # fmt: skip
        api.mood = "401"
        told = place.run(*add, code=1)
        assert "failed (credentials)" in told.stderr and "nothing was written" in told.stderr
        assert key.read_text() not in told.stderr
        api.mood = ""
        trial = place.json(*add)["trial"]
        assert trial["context"]["exact"] and 0 < trial["context"]["share"] < 1
        assert trial["canary"]["usage"]["output_tokens"] > 0
        told = place.run("shards", "test", "model")
        assert "of a window of" in told.stdout and "the question cost" in told.stdout
        place.run("shards", "remove", "model")
        key.unlink()


@pytest.mark.long
def test_a_shard_on_a_home_that_is_down_is_checked_and_written_and_comes_with_it(new_place) -> None:
    place = new_place('[shards.main]\nbackend = "echo"\n')
    (place.root / "sub").mkdir()
    (place.root / "sub" / "notes.md").write_text("# Moon\n\nIt is far away.\n")
    place.run(
        "shards", "add", "bad", "--backend", "command", "--option", 'command=["nope"]', code=4
    )
    done = subprocess.run(
        [*place.command, "shards", "add", "new", "--backend", "extract", "--context", "notes.md"],
        cwd=place.root / "sub",
        env=place.environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "start it with: autopoll up" in done.stdout
    [path] = place.home.shard_files.iterdir()
    assert tomllib.loads(path.read_text())["context"] == ["sub/notes.md"]
    [trial] = place.json_lines("shards", "test", "new")
    steps = [step["name"] for step in trial["steps"]]
    assert steps == ["settings", "context", "instance", "canary"]
    place.run("up")
    assert place.ask("How far is the moon?", "--shard", "new")["sources"]
    place.run("down")
    assert not place.json("shards", "remove", "new")["running"]
    assert not shard_files(place)


@pytest.mark.long
def test_a_shard_that_an_older_version_wrote_into_autopoll_toml_is_kept_and_can_be_removed(
    new_place,
) -> None:
    place = new_place('[shards.main]\nbackend = "echo"\n\n[shards.old]\nbackend = "echo"\n')
    link, real = place.root / "autopoll.toml", place.root / "real.toml"
    link.rename(real)
    link.symlink_to("real.toml")
    real.chmod(0o640)
    assert not place.json("shards", "add", "old", "--backend", "echo")["new"]
    told = place.run("shards", "add", "old", "--backend", "echo", "--instances", "2", code=4)
    assert f"Change them in {link} and run" in told.stderr
    place.run("up")
    assert place.ask("x", "--shard", "old")["answer"] == "x"
    assert place.json("shards", "remove", "old")["running"]
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o640
    assert real.read_text() == '[shards.main]\nbackend = "echo"\n'
    assert place.names() == ["poller", "watchdog", "worker"]


def test_a_trial_says_which_step_failed_of_which_shard_and_goes_on_with_the_others(
    new_place,
) -> None:
    place = new_place(
        '[shards.bad]\nbackend = "command"\n[shards.bad.options]\ncommand = ["false"]\n'
        'ready = true\n[shards.main]\nbackend = "echo"\n'
    )
    bad, good = place.json_lines("shards", "test", code=1)
    assert (bad["ok"], good["ok"]) == (False, True)
    [step] = [step for step in bad["steps"] if not step["ok"]]
    assert (step["name"], step["failure"]) == ("instance", "broken")
    told = place.run("shards", "test", "bad", code=1)
    assert "FAIL  instance (broken)" in told.stdout


def test_the_name_of_the_group_alone_lists_the_shards(place) -> None:
    assert place.run("shards").stdout == place.run("shards", "list").stdout
    assert [each["name"] for each in place.json_lines("shards")] == ["main", "slow"]
