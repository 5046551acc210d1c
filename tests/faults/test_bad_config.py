"""Settings that cannot work: each is refused with the file, the key, and what is allowed."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from place import ECHO, Place, until

pytestmark = pytest.mark.early


@pytest.fixture(scope="module")
def resting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("resting") / "home").be_ordinary()
    yield place
    place.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("running") / "home").be_ordinary().running() as place:
        yield place


@contextmanager
def spoilt(path: Path, content: bytes | str | None) -> Iterator[None]:
    """Put something else in a file for a while; None takes the file away."""
    kept = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    try:
        yield
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize(
    ("content", "reasons"),
    [
        (ECHO.replace("backend", "bakcend"), ["shards.main", "bakcend", "Allowed: backend"]),
        ("[delivry]\n" + ECHO, ["delivry", "Allowed: shards, bridge, delivery, access"]),
        (ECHO + "instances = 'two'\n", ["shards.main.instances", "Expected `int`, got `str`"]),
        (ECHO + "instances = 0\n", ["shards.main.instances", "is 0", "Allowed: 1 to 64"]),
        (ECHO + "request_timeout = 60\n", ["shards.main.request_timeout", "duration", "60s"]),
        (ECHO + "request_timeout = '-1s'\n", ["shards.main.request_timeout", "60s"]),
        (ECHO + "context = 'docs'\n", ["shards.main.context", "Expected `array`"]),
        (ECHO + "[delivery]\nmax_attempts = 0\n", ["delivery.max_attempts", "1 to 100"]),
        (ECHO + "[delivery]\nmax_message = 1e9\n", ["delivery.max_message"]),
        ("[shards.main]\n", ["shards.main", "lacks the key", "backend"]),
        ("", ["lacks the key", "shards"]),
        (ECHO.replace("main", "other"), ["shards.main", "is missing"]),
        (ECHO + '[shards."Bad Name"]\nbackend = "echo"\n', ["Bad Name", "is no shard name"]),
        ("shards = 3\n", ["shards", "Expected `object`"]),
        ("[shards]\nmain = 3\n", ["shards.main", "Expected `object`"]),
        ("[shards.main\n", ["is not valid TOML", "line 1"]),
        (ECHO + ECHO, ["is not valid TOML"]),
        ("a = " + "[" * 50_000, ["is not valid TOML"]),
        (b"\xff\xfe[shards]", ["is not valid TOML"]),
        (b"[shards.main]\0", ["is not valid TOML"]),
    ],
)
def test_settings_that_cannot_work_are_refused_by_file_and_key(resting, content, reasons) -> None:
    with spoilt(resting.home.config, content):
        refused = resting.run("up", code=4)
    assert str(resting.home.config) in refused.stderr
    for reason in reasons:
        assert reason in refused.stderr
    assert resting.processes() == []


@pytest.mark.parametrize(
    "command", ["ask why?", "status", "init .", "restart", "up --foreground", "poller"]
)
def test_every_command_that_needs_the_settings_refuses_them(resting, command) -> None:
    with spoilt(resting.home.config, ECHO.replace("backend", "bakcend")):
        refused = resting.run(*command.split(), code=78 if command == "poller" else 4)
        assert "shards.main" in refused.stderr and "bakcend" in refused.stderr


def test_health_names_settings_that_cannot_work(resting) -> None:
    with spoilt(resting.home.config, ECHO.replace("backend", "bakcend")):
        health = resting.json("health", code=2)
    [check] = [check for check in health["checks"] if check["name"] == "config"]
    assert not check["ok"] and "bakcend" in check["detail"]


@pytest.mark.parametrize(
    ("content", "reasons"),
    [
        (ECHO.replace('"echo"', '"ehco"'), ["ehco", "echo", "extract"]),
        (ECHO + "[shards.main.options]\ndealy = '1s'\n", ["shards.main.options", "dealy", "delay"]),
        (ECHO + "[shards.main.options]\ndelay = 5\n", ["shards.main.options", "delay"]),
        (
            '[shards.main]\nbackend = "extract"\ncontext = ["missing"]\n',
            ["shards.main.context", "missing", "does not exist"],
        ),
        (
            '[shards.main]\nbackend = "extract"\ncontext = ["var"]\n',
            ["shards.main.context", "is the home's own"],
        ),
        (
            '[shards.main]\nbackend = "command"\n[shards.main.options]\ncommand = ["no-such"]\n',
            ["shards.main.options.command", "no-such"],
        ),
        (ECHO + '[bridge]\nurl = "mysql://x"\n', ["mysql://…", "sqlite:///", "postgresql://"]),
    ],
)
def test_a_backend_that_cannot_be_had_is_refused_before_anything_starts(
    resting, content, reasons
) -> None:
    with spoilt(resting.home.config, content):
        refused = resting.run("up", code=4)
        for reason in reasons:
            assert reason in refused.stderr
    assert resting.processes() == []


UGLY_SHARDS: dict[str, tuple[str, bytes | None, str]] = {
    "the head of a table": ("x.toml", b"[shards.x]\nbackend = 'echo'\n", "without the line"),
    "an unknown key": ("x.toml", b"backend = 'echo'\ndealy = 1\n", "Allowed: backend"),
    "not UTF-8": ("x.toml", b"\xff", "encoding UTF-8"),
    "a foreign suffix": ("x.tml", b"backend = 'echo'\n", "Name it NAME.toml"),
    "a name that is not UTF-8": (os.fsdecode(b"\xff.toml"), b"", "Name it NAME.toml"),
    "an escape sequence in its name": ("\x1b[2J.toml", b"", "Name it NAME.toml"),
    "a folder": ("x.toml", None, "not a regular file"),
    "a shard that is in autopoll.toml": ("main.toml", b"backend = 'echo'\n", "one of the two"),
    "a context that is the home's own": (
        "x.toml",
        b"backend = 'extract'\ncontext = ['shards.d']\n",
        "is the home's own",
    ),
}


@pytest.mark.parametrize("what", UGLY_SHARDS)
def test_a_shard_file_that_cannot_work_changes_nothing_that_runs(running, what) -> None:
    name, content, reason = UGLY_SHARDS[what]
    before = {each: running.pid(each) for each in ("poller", "worker", "watchdog")}
    path = running.home.shard_files / name
    if content is None:
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    try:
        refused = running.run("reload", code=4)
        assert reason in refused.stderr and "\x1b" not in refused.stderr
        assert running.json("health", code=None)["verdict"] != "ok"
        assert {each: running.pid(each) for each in before} == before
    finally:
        shutil.rmtree(running.home.shard_files)
    running.run("reload")
    assert {each: running.pid(each) for each in before} == before


def test_settings_that_cannot_be_read_are_named(resting) -> None:
    resting.home.config.chmod(0)
    try:
        for command in ("up", "ask why?", "status"):
            refused = resting.run(*command.split(), code=4)
            assert f"{resting.home.config} cannot be read: Permission denied" in refused.stderr
    finally:
        resting.home.config.chmod(0o644)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AUTOPOLL_SHARDS__MAIN__INSTANCES", "many"),
        ("AUTOPOLL_SHARDS__MAIN__INSTANCES", "0"),
        ("AUTOPOLL_DELIVERY__MAX_ATEMPTS", "3"),
        ("AUTOPOLL_SHARDS__MAIN__BACKEND__NAME", "echo"),
    ],
)
def test_an_override_that_cannot_work_is_named_by_its_variable(
    resting, monkeypatch, variable, value
) -> None:
    monkeypatch.setitem(resting.environ, variable, value)
    assert variable in resting.run("up", code=4).stderr


# --- the process tree


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file"),
        ("", "names no socket"),
        ("[unix_http_server\n", "names no socket"),
        (b"\xff\xfe\0", "names no socket"),
        ("[unix_http_server]\nfile = %(here)s/" + "x" * 100 + "\n", "socket path too long"),
        (
            "[unix_http_server]\nfile = %(here)s/../var/run/supervisor.sock\n",
            "has no section [program:worker]",
        ),
    ],
)
def test_a_process_tree_that_cannot_work_is_refused_with_the_way_to_mend_it(
    resting, content, reason
) -> None:
    with spoilt(resting.home.supervisord_conf, content):
        refused = resting.run("up", code=4, timeout=30)
        assert reason in refused.stderr
        assert str(resting.home.supervisord_conf) in refused.stderr
        resting.run("status", code=None)
    assert resting.processes() == []


def test_what_supervisord_itself_refuses_is_said_by_up(resting) -> None:
    text = resting.home.supervisord_conf.read_text()
    with spoilt(resting.home.supervisord_conf, text.replace("startsecs = 3", "startsecs = soon")):
        refused = resting.run("up", code=2, timeout=30)
        assert "supervisord did not start" in refused.stderr and "'soon'" in refused.stderr
    assert resting.processes() == []


def test_a_home_whose_path_is_too_long_for_a_socket_gets_a_short_one(tmp_path) -> None:
    place = Place(tmp_path / ("long " * 12 + "x") / ("path " * 12 + "y")).be_ordinary()
    with place.running():
        assert place.ask("why?")["answer"] == "why?"
        place.run("status")
        assert len([*Path(place.state.name).rglob("*.sock")]) == 1
        place.run("down")
        assert [*Path(place.state.name).rglob("*.sock")] == []


def test_where_no_socket_path_is_short_enough_init_says_so(resting, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(resting.environ, "XDG_STATE_HOME", str(tmp_path / ("s" * 90)))
    refused = resting.run("init", str(tmp_path / ("h" * 90)), code=4)
    assert "too long" in refused.stderr and "XDG_STATE_HOME" in refused.stderr


@pytest.mark.parametrize("name", ["per%cent", "star*", "new\nline", "[bracket]"])
def test_a_home_with_a_name_that_supervisord_cannot_take_is_refused(resting, name) -> None:
    folder = resting.root / name
    refused = resting.run("init", str(folder), code=4)
    assert "cannot be a home" in refused.stderr
    assert not folder.exists()


# --- while it runs


def test_a_running_home_goes_on_when_its_settings_are_spoilt_and_comes_back_when_mended(
    running,
) -> None:
    with spoilt(running.home.config, "[shards.main\n"):
        assert "is not valid TOML" in running.run("ask", "why?", code=4).stderr
        assert running.json("health", code=2)["verdict"] == "down"
        refused = running.run("restart", code=4)
        assert "is not valid TOML" in refused.stderr
        assert running.names() == ["poller", "watchdog", "worker"]
    assert running.ask("why?")["answer"] == "why?"
    running.run("health")


@pytest.mark.long
def test_a_poller_killed_while_the_settings_are_spoilt_is_named_and_comes_back_by_restart(
    running,
) -> None:
    kept = running.json("ask", "safe?", "--no-wait")["id"]
    with spoilt(running.home.config, "[shards.main\n"):
        running.kill("poller")
        errors = running.home.log / "poller.stderr"
        until(lambda: "is not valid TOML" in errors.read_text(), 20, "the error in the log")
    assert running.run("status", code=None)
    running.run("restart")
    assert running.json("answer", str(kept))["answer"] == "safe?"
    assert running.ask("and now?")["answer"] == "and now?"


@pytest.mark.long
def test_a_shard_added_without_a_restart_keeps_its_questions_until_there_is_one(running) -> None:
    running.home.config.write_text(ECHO + '[shards.new]\nbackend = "echo"\n')
    try:
        refused = running.run("ask", "why?", "--shard", "new", code=2)
        assert "shard new has no conversation yet" in refused.stderr
        running.run("init", ".")
        late = running.json("ask", "why?", "--shard", "new", "--timeout", "1s", code=5)
        assert late["status"] == "pending"
        status = running.json("status", code=1)
        shards = {shard["name"]: shard for shard in status["shards"]}
        assert (shards["main"]["ready"], shards["new"]["ready"]) == (1, 0)
        assert running.ask("main is well?")["status"] == "answered"
        running.run("restart")
        assert running.json("answer", str(late["id"]))["answer"] == "why?"
    finally:
        running.home.config.write_text(ECHO)
        shutil.rmtree(running.home.program_files, ignore_errors=True)


def test_json_errors_hold_what_happened_and_what_to_do(resting) -> None:
    with spoilt(resting.home.config, ECHO.replace("backend", "bakcend")):
        refused = resting.run("status", "--json", code=4)
        error = json.loads(refused.stderr)
        assert "bakcend" in error["error"] and "Allowed" in error["mend"]
        assert refused.stdout == ""


@pytest.mark.long
def test_a_home_whose_settings_were_garbled_goes_down_all_the_same(new_place) -> None:
    place = new_place()
    place.run("up")
    place.home.config.write_text("[shards.main\n")
    done = place.run("down")
    assert "going down all the same" in done.stderr
    assert "is not valid TOML" in done.stderr
    assert place.processes() == []
    assert "as it was before" in place.run("down").stdout
