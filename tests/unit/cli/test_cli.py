"""The command line without any process: help, errors, exit codes, and ugly input."""

import io
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import pytest
from hand_poller import HandPoller
from place import until

from autopoll.cli import COMMANDS, commands, main
from autopoll.client.home_sessions import HomeSessions
from autopoll.errors import BridgeBusy, Exit
from autopoll.home.config import Config
from autopoll.home.home import Home

ROOT = Path(__file__).parents[3]
ECHO = '[shards.main]\nbackend = "echo"\n'


def every_command() -> Iterator[tuple[str, click.Command]]:
    def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield path, command
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=path)
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child
                yield from walk(f"{path} {name}", child)

    yield from walk("autopoll", commands)


EVERY = dict(every_command())


class Outcome:
    """What a command line came to."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        assert "Traceback" not in err


Run = Callable[..., Outcome]


@pytest.fixture
def run(
    tmp_path: Path,
    short_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run command lines in an empty folder, within this process."""
    for name in [name for name in os.environ if name.startswith("AUTOPOLL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(short_folder))
    (tmp_path / "h").mkdir()
    monkeypatch.chdir(tmp_path / "h")

    def go(*args: str, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        code = main(list(args))
        return Outcome(code, *capsys.readouterr())

    return go


@pytest.fixture
def home(run: Run) -> Path:
    root = Path.cwd()
    (root / "autopoll.toml").write_text(ECHO)
    assert run("init").code == Exit.OK
    return root


# --- help and documentation


@pytest.mark.parametrize("path", EVERY)
def test_every_command_has_help_and_an_example_and_takes_home_and_json(path: str) -> None:
    command = EVERY[path]
    assert command.help
    assert "Example:" in (command.epilog or "")
    names = {option for param in command.params for option in param.opts}
    assert {"--home", "--json"} <= names
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, f"{path} {param.opts}"


@pytest.mark.parametrize("path", EVERY)
def test_every_command_and_option_is_in_the_reference(path: str) -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    if path == "autopoll":
        return
    [section] = [part for part in page.split("\n### ") if part.startswith(f"{path}\n")]
    for param in EVERY[path].params:
        for option in param.opts if isinstance(param, click.Option) else []:
            assert option in section


def test_the_reference_is_what_the_commands_say() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "generate.py"))["text"]()
    assert made.split() == (ROOT / "docs" / "cli.md").read_text().split(), "run: make docs"


def test_help_imports_no_command_and_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['autopoll', '--help']\n"
        "from autopoll.cli import main; main()\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    heavy = {"rich", "asyncio", "psutil", "msgspec", "apsw", "supervisor", "tomllib", "xmlrpc"}
    assert not loaded & heavy
    mine = {name for name in loaded if name.startswith("autopoll.cli.")}
    assert mine == {f"autopoll.cli.{name}" for name in ("base_command", "output", "error_text")}
    for section in COMMANDS.values():
        assert all(name in done.stdout for name in section)


HEAVY = {
    "rich", "asyncio", "psutil", "supervisor", "xmlrpc", "inotify_simple", "fastapi", "starlette",
    "pydantic", "uvicorn", "mcp", "importlib.metadata", "logging", "platformdirs",
}  # fmt: skip
# What only an asker needs who finds no poller, with what that imports.
STORE = {
    "apsw", "hashlib", "hmac", "secrets", "random", "autopoll.bridge.sqlite",
    "autopoll.bridge.protocols", "autopoll.bridge.token_renewal", "autopoll.client.availability",
    "autopoll.redact.redact", "fifo.bell", "fifo.pipe", "shlex",
}  # fmt: skip
OTHERS = {"bz2", "configparser", "dataclasses", "json", "lzma", "shutil", "subprocess"}


def loaded_by(*args: str) -> subprocess.Popen[str]:
    """Start a command line; the last line of what it prints is the modules it has imported."""
    code = f"import sys; from autopoll.cli import main; main({list(args)}); print(*sys.modules)"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def last_line(process: subprocess.Popen[str]) -> set[str]:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return set(out.splitlines()[-1].split())


def test_asking_imports_nothing_that_only_others_need(home: Path) -> None:
    loaded = last_line(loaded_by("ask", "x", "--no-wait"))
    assert "apsw" in loaded
    assert not loaded & HEAVY


def test_asking_a_poller_opens_no_store_and_imports_nothing_for_it(home: Path) -> None:
    bare = subprocess.check_output([sys.executable, "-c", "import sys; print(*sys.modules)"])
    unwanted = (HEAVY | STORE | OTHERS) - set(bare.decode().split())

    def excess(process: subprocess.Popen[str]) -> set[str]:
        return last_line(process) & unwanted

    with HandPoller(Home(home)) as poller:
        asking = loaded_by("ask", "x")
        until(lambda: poller.claimed, what="the question")
        poller.answer()
        assert excess(asking) == set()
        assert excess(loaded_by("ask", "y", "--no-wait")) == set()
        assert excess(loaded_by("answer", "1")) == set()


@pytest.mark.parametrize("command", ["status", "mcp", "poller"])
def test_garbage_is_collected_once_a_command_has_been_found(command: str) -> None:
    code = (
        f"import gc, sys; sys.argv = ['autopoll', '{command}', '--help']\n"
        "from autopoll.__main__ import main; main()\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 10_000)"
    )
    done = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert done.splitlines()[-1] == "True True"


def test_no_arguments_show_the_help(run: Run) -> None:
    assert "Usage: autopoll" in run().out


@pytest.mark.parametrize("name", ["conversations", "dead"])
def test_a_group_without_a_command_shows_its_help_as_a_usage_error(run: Run, name: str) -> None:
    told = run(name)
    assert told.code == Exit.USAGE
    assert "list" in told.err


# --- errors and exit codes


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["stauts"], "status"),
        (["zzzz"], "--help"),
        (["ask", "--shrad", "x"], "--shard"),
        (["ask"], "no question"),
        (["ask", "a", "b"], "unexpected"),
        (["ask", "x", "--timeout", "soon"], "duration"),
        (["ask", "x", "--timeout", "-1s"], "duration"),
        (["ask", "x", "--timeout", "0"], "duration"),
        (["ask", "x", "--shard", "a", "--all"], "exclude"),
        (["ask", "x", "--lines"], "stdin"),
        (["answer"], "ID"),
        (["answer", "zero"], "zero"),
        (["answer", "0"], "0"),
        (["answer", str(2**63)], "range"),
        (["answer", "١x"], "integer"),
        (["worker", "--instance", "0"], "0"),
        (["logs", "-n", "-1"], "-1"),
        (["conversations", "rotate", "conv_0", "c"], "'c'"),
        (["serve", "conv_0"], "--shard"),
        (["serve", "conv_0", "--shard", "main", "--stop"], "--stop"),
        (["--home"], "--home"),
        (["--home", "", "down"], "--home"),
        (["ask", "\udcff"], "UTF-8"),
        (["--home", "\udcff", "status"], "UTF-8"),
    ],
)
def test_wrong_usage_exits_4_and_says_what_is_wrong(run: Run, args: list[str], words: str) -> None:
    told = run(*args)
    assert told.code == Exit.USAGE, told.err
    assert words in told.err
    assert told.err.startswith("autopoll: ")
    assert told.out == ""


@pytest.mark.parametrize(
    "args",
    [["status"], ["ask", "x"], ["health"], ["messages"], ["poller"], ["up"], ["dead", "list"]],
)
def test_without_a_home_every_command_says_how_to_make_one(run: Run, args: list[str]) -> None:
    told = run(*args)
    assert told.code == Exit.DOWN
    assert "autopoll init" in told.err


@pytest.mark.parametrize("where", ["before", "after"])
def test_home_and_json_may_stand_before_or_after_the_command(
    home: Path, run: Run, where: str
) -> None:
    os.chdir("/")
    options = ["--home", str(home), "--json"]
    args = [*options, "status"] if where == "before" else ["status", *options]
    told = run(*args)
    assert told.code == Exit.DOWN
    assert json.loads(told.out)["ready"] is False


def test_with_json_an_error_is_an_object_on_stderr(run: Run) -> None:
    told = run("status", "--json")
    assert json.loads(told.err).keys() == {"error", "mend"}
    assert told.out == ""


def test_a_home_that_is_none_is_refused(run: Run, tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", tmp_path / "h"):
        told = run("--home", str(place), "status")
        assert (told.code, "is no autopoll home" in told.err) == (Exit.DOWN, True)


def test_a_broken_configuration_is_named_by_every_command_and_by_health(
    home: Path, run: Run
) -> None:
    (home / "autopoll.toml").write_text(ECHO + "instanses = 2\n")
    told = run("status")
    assert (told.code, "instanses" in told.err) == (Exit.USAGE, True)
    told = run("health", "--json")
    [config] = [each for each in json.loads(told.out)["checks"] if each["name"] == "config"]
    assert not config["ok"]
    assert "instanses" in config["detail"]


def test_a_role_with_a_broken_configuration_exits_so_that_supervisord_leaves_it(
    home: Path, run: Run
) -> None:
    assert run("worker", "--shard", "other").code == Exit.BAD_CONFIG
    (home / "autopoll.toml").write_text("[shards")
    assert run("poller").code == Exit.BAD_CONFIG
    assert run("worker").code == Exit.BAD_CONFIG


def test_a_backend_that_is_not_there_is_refused_before_anything_starts(
    home: Path, run: Run
) -> None:
    (home / "autopoll.toml").write_text('[shards.main]\nbackend = "oracle"\n')
    told = run("up")
    assert told.code == Exit.USAGE
    assert "'oracle'" in told.err
    assert "extract" in told.err


def test_a_bug_is_a_sentence_and_a_traceback_only_on_request(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("nothing")

    monkeypatch.setattr("autopoll.bridge.connect.open_bridge", broken)
    told = run("messages")
    assert told.code == Exit.FAILED
    assert "bug in autopoll: ZeroDivisionError" in told.err
    monkeypatch.setenv("AUTOPOLL_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["messages"])


def test_a_busy_database_is_an_error_with_the_exit_code_of_its_kind(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object, **__: object) -> None:
        raise BridgeBusy("another program holds the database", "Wait for it.")

    monkeypatch.setattr("autopoll.bridge.connect.open_bridge", busy)
    told = run("ask", "x")
    assert (told.code, told.err) == (
        Exit.DOWN,
        "autopoll: another program holds the database\n  Wait for it.\n",
    )


def test_a_ctrl_c_in_the_import_of_a_library_is_one(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:  # as Python 3.11 does for what a class body calls
            raise RuntimeError("Error calling __set_name__") from error

    monkeypatch.setattr("autopoll.home.config.load", interrupted)
    done = run("messages")
    assert (done.code, done.out, done.err) == (Exit.INTERRUPTED, "", "")


# --- init


def test_init_shows_the_tokens_once_as_json(run: Run) -> None:
    first = json.loads(run("init", "--json").out)
    assert first["home"] == str(Path.cwd())
    assert first["conversation"].startswith("conv_")
    assert first["tokens"].keys() == {"a", "b"}
    again = json.loads(run("init", "--json").out)
    assert again == first | {"tokens": None}


def test_init_does_not_show_tokens_to_people(run: Run) -> None:
    out = run("init").out
    kept = json.loads(Path("var/credentials").read_text())
    assert all(token not in out for pair in kept["tokens"].values() for token in pair.values())


@pytest.mark.parametrize("name", ["a%b", "a\nb", "/proc/nothing", "a[b"])
def test_init_refuses_a_folder_that_cannot_be_a_home(run: Run, name: str) -> None:
    told = run("init", name)
    assert told.code == Exit.USAGE
    assert "home" in told.err or "cannot be made" in told.err


def test_init_goes_where_home_points(run: Run, tmp_path: Path) -> None:
    assert run("init", "--home", str(tmp_path / "x y")).code == Exit.OK
    assert (tmp_path / "x y" / "autopoll.toml").is_file()


# --- asking while nobody answers


@pytest.mark.parametrize(
    ("args", "stdin"),
    [
        (["ask", ""], b""),
        (["ask", "  \t"], b""),
        (["ask", "a\0b"], b""),
        (["ask", "-"], b""),
        (["ask", "-"], b"\xff\xfe\x00"),
        (["ask", "-"], b"a\0b"),
        (["ask", "--lines"], b""),
        (["ask", "--lines"], b"\n\n  \n"),
        (["ask", "--lines"], b"fine\n\xff\n"),
        (["ask", "--lines"], b"fine\na\0b\n"),
        (["ask", "-"], b"x" * (8 * 1024 * 1024 + 1)),
        (["ask", "--lines"], b"y\n" + b"x" * (8 * 1024 * 1024 + 1)),
        (["ask", "x", "--shard", "nobody"], b""),
        (["ask", "x", "--shard", ""], b""),
    ],
)
def test_what_is_no_question_is_refused_and_nothing_is_stored(
    home: Path, run: Run, args: list[str], stdin: bytes
) -> None:
    told = run(*args, stdin=stdin)
    assert told.code in (Exit.USAGE, Exit.DOWN)
    assert told.err.startswith("autopoll: ")
    assert run("messages", "--json").out == ""


@pytest.mark.parametrize("command", ["ask -", "ask --lines", "ask --lines --json", "send conv_0 -"])
def test_what_reads_stdin_says_where_it_is_closed(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(command.split()) == Exit.USAGE
    assert "stdin is closed" in capsys.readouterr().err


def test_a_question_asked_while_everything_is_down_is_kept(home: Path, run: Run) -> None:
    told = run("ask", "später? 🙂")
    assert told.code == Exit.DOWN
    assert "autopoll is down: question 1 is kept" in told.err
    assert "autopoll answer 1" in told.err
    [line] = run("messages", "--json").out.splitlines()
    assert json.loads(json.loads(line)["text"])["question"] == "später? 🙂"
    assert run("answer", "1").code == Exit.DOWN
    shown = run("answer", "1", "--no-wait", "--json")
    assert shown.code == Exit.OK
    assert json.loads(shown.out)["status"] == "pending"


def test_lines_are_asked_in_order_without_waiting(home: Path, run: Run) -> None:
    told = run("ask", "--lines", "--no-wait", "--json", stdin=b"one\n\n two\r\nthree")
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert [line["status"] for line in lines] == ["pending"] * 3
    stored = [json.loads(line)["text"] for line in run("messages", "--json").out.splitlines()]
    assert [json.loads(text)["question"] for text in stored] == ["one", "two", "three"]


def test_an_answer_to_an_unknown_question_is_not_found(home: Path, run: Run) -> None:
    assert run("answer", "99").code == Exit.DOWN


# --- the bare bridge


@pytest.fixture
def talk(home: Path, run: Run) -> dict[str, str]:
    """A conversation that no shard serves: its id, and a file for each token."""
    made = json.loads(run("conversations", "create", "--json").out)
    for session, token in made["tokens"].items():
        Path(session).write_text(token)
    return {"id": made["conversation"], **made["tokens"]}


def test_a_message_goes_from_one_session_to_the_inbox_of_the_other(
    talk: dict[str, str], run: Run
) -> None:
    sent = json.loads(run("send", talk["id"], "hello", "--token-file", "a", "--json").out)
    assert sent["session"] == "a"
    for _ in range(2):  # looking does not consume
        [line] = run(
            "messages", "--unread", "--json", "--conversation", talk["id"]
        ).out.splitlines()
        assert json.loads(line)["read"] is False
    assert "hello" in run("inbox", talk["id"], "--token-file", "b").out
    assert "no unread" in run("inbox", talk["id"], "--token-file", "b").out


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["send", "conv_unknown", "x", "--token-file", "a"], Exit.DOWN),
        (["send", "ID", "x"], Exit.DOWN),
        (["send", "ID", "x", "--token-file", "missing"], Exit.USAGE),
        (["send", "ID", "x", "--token-file", "."], Exit.USAGE),
        (["send", "ID", "x", "--token-file", "empty"], Exit.USAGE),
        (["send", "ID", "x", "--token-file", "wrong"], Exit.USAGE),
        (["send", "ID", "x", "--token-file", "foreign"], Exit.USAGE),
        (["send", "ID", "x", "--session", "b", "--token-file", "a"], Exit.USAGE),
        (["send", "ID", "x", "--token-file", "a", "--metadata", "["], Exit.USAGE),
        (["send", "ID", "x", "--token-file", "a", "--metadata", "[]"], Exit.USAGE),
        (["inbox", "ID", "--token-file", "wrong"], Exit.USAGE),
        (["inbox", "ID", "--limit", "0"], Exit.USAGE),
        (["messages", "--conversation", "conv_unknown"], Exit.DOWN),
        (["conversations", "show", ""], Exit.DOWN),
        (["conversations", "rotate", "conv_unknown", "a"], Exit.DOWN),
        (["conversations", "revoke", "conv_unknown", "a"], Exit.DOWN),
        (["serve", "conv_unknown", "--shard", "main"], Exit.DOWN),
        (["serve", "ID", "--shard", "nobody"], Exit.DOWN),
        (["dead", "show", "1"], Exit.DOWN),
        (["dead", "retry", "1"], Exit.DOWN),
        (["dead", "drop", "1"], Exit.DOWN),
        (["logs", "nobody"], Exit.DOWN),
        (["logs", "../../autopoll"], Exit.DOWN),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    talk: dict[str, str], run: Run, args: list[str], code: Exit
) -> None:
    Path("empty").write_text("")
    Path("wrong").write_text("0" * 64)
    Path("foreign").write_text("ä" * 64)
    told = run(*(talk["id"] if arg == "ID" else arg for arg in args))
    assert told.code == code, told.err
    assert told.err.startswith("autopoll: ")
    assert talk["a"] not in told.err + told.out
    assert run("messages", "--json").out == ""


def test_a_token_never_comes_by_the_command_line() -> None:
    for path, command in EVERY.items():
        names = [option for param in command.params for option in param.opts]
        assert "--token" not in names, path


def test_a_rotated_token_is_shown_once_and_the_old_one_ends(talk: dict[str, str], run: Run) -> None:
    fresh = json.loads(run("conversations", "rotate", talk["id"], "a", "--json").out)["token"]
    assert run("send", talk["id"], "x", "--token-file", "a").code == Exit.USAGE
    Path("a").write_text(fresh)
    assert run("send", talk["id"], "x", "--token-file", "a").code == Exit.OK


def test_rotating_the_homes_own_token_keeps_the_new_one(home: Path, run: Run) -> None:
    own = json.loads(run("init", "--json").out)["conversation"]
    told = json.loads(run("conversations", "rotate", own, "a", "--json").out)
    assert (told["token"], told["kept"]) == (None, True)
    assert run("ask", "x", "--no-wait").code == Exit.OK


def test_a_shard_that_is_asked_alone_is_looked_for_once(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_for = []
    look = HomeSessions.require_shards

    def counted(sessions: HomeSessions, shards: Sequence[str], config: Config) -> None:
        looked_for.append([*shards])
        look(sessions, shards, config)

    monkeypatch.setattr(HomeSessions, "require_shards", counted)
    assert run("ask", "x", "--no-wait").code == Exit.OK
    assert looked_for == [["main"]]
    assert run("ask", "x", "--no-wait", "--shard", "main,none").code == Exit.DOWN
    assert looked_for == [["main"], ["main", "none"]]


def test_a_conversation_can_be_served_and_let_go(talk: dict[str, str], run: Run) -> None:
    assert run("serve", talk["id"], "--shard", "main").code == Exit.OK
    assert json.loads(run("conversations", "show", talk["id"], "--json").out)["served"] == {
        "b": "main"
    }
    assert run("inbox", talk["id"], "--token-file", "b").code == Exit.USAGE
    assert run("serve", talk["id"], "--stop").code == Exit.OK
    assert run("inbox", talk["id"], "--token-file", "b").code == Exit.OK


# --- looking


def test_what_looks_writes_nothing(home: Path, run: Run) -> None:
    run("ask", "x", "--no-wait")
    before = json.loads(run("status", "--json").out)["queue"]
    for args in (
        ["status"], ["health"], ["messages"], ["messages", "--unread"], ["incidents"], ["logs"],
        ["conversations", "list"], ["dead", "list"], ["shards", "list"], ["answer", "1"],
    ):  # fmt: skip
        run(*args)
        run(*args, "--json")
    assert json.loads(run("status", "--json").out)["queue"] == before
    [line] = run("messages", "--json").out.splitlines()
    assert json.loads(line)["read"] is False


def test_status_and_health_have_the_fields_that_others_rely_on(home: Path, run: Run) -> None:
    told = run("status", "--json")
    assert told.code == Exit.DOWN
    status = json.loads(told.out)
    assert {"ready", "processes", "shards", "queue", "latency_ms"} <= status.keys()
    assert {process["role"] for process in status["processes"]} == {"poller", "worker", "watchdog"}
    assert {
        "name", "role", "state", "pid", "uptime_s", "restarts", "rss_bytes", "fds",
    } <= status["processes"][0].keys()  # fmt: skip
    assert status["processes"][0]["state"] == "down"
    assert status["shards"] == [
        {
            "name": "main",
            "backend": "echo",
            "instances": 1,
            "ready": 0,
            "in_flight": 0,
            "paused": None,
            "usage_today": {
                "input_tokens": 0,
                "output_tokens": 0,
                "cached_tokens": 0,
                "cost_usd": None,
                "answers": 0,
            },
            "context_remarks": {"total": 0, "failed": 0, "files": []},
        }
    ]
    assert status["queue"].keys() == {"queued", "ready", "leased", "done", "dead"}
    assert status["latency_ms"].keys() == {"p50", "p99"}
    told = run("health", "--json")
    health = json.loads(told.out)
    assert (told.code, health["verdict"]) == (Exit.DOWN, "down")
    assert all(check.keys() == {"name", "ok", "detail"} for check in health["checks"])


def test_text_from_others_cannot_drive_the_terminal(
    talk: dict[str, str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("send", talk["id"], "a\x1b[2Jb\u202ec", "--token-file", "a")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for args in (["messages"], ["inbox", talk["id"], "--token-file", "b"]):
        out = run(*args).out
        assert "\x1b[2J" not in out
        assert "\u202e" not in out


def test_logs_are_merged_by_time_and_what_is_not_json_is_kept(home: Path, run: Run) -> None:
    log = home / "var" / "log"
    (log / "poller.log").write_text('{"at":"2026-01-01T00:00:02","level":"info","text":"two"}\n')
    (log / "worker.log").write_text('{"at":"2026-01-01T00:00:01","text":"one"}\n[]\n{"torn\n')
    (log / "supervisord.log").write_text("2026-01-01 00:00:03,000 INFO three\n\xff\n")
    texts = [json.loads(line)["text"] for line in run("logs", "--json").out.splitlines()]
    assert (
        texts.index("one") < texts.index("two") < texts.index("2026-01-01 00:00:03,000 INFO three")
    )
    assert {"[]", '{"torn'} <= set(texts)
    assert [
        json.loads(line)["text"] for line in run("logs", "poller", "--json").out.splitlines()
    ] == ["two"]
    assert run("logs", "-n", "0").out == ""
