"""Commands on a home that runs, in every bad state of their streams: right exit code, one clear
line, and they end."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import json_schemas
import pytest
from place import Place, until
from terminal import OnTerminal

from autopoll.errors import Exit

pytestmark = pytest.mark.long

WAYS_PROGRAM = Path(__file__).parents[2] / "data" / "ways.py"
CONFIG = """
[shards.main]
backend = "echo"
[shards.docs]
backend = "extract"
"""
STREAM_WAYS = ["closed", "errors closed", "both closed", "full", "errors full", "gone", "both gone"]
BAD_WAYS = [*STREAM_WAYS, "no input", "LANG=C", "20 columns", "Ctrl-C 5", "Ctrl-C 40"]
# What takes the home down, or does something else the second time.
ONCE = (
    "init", "up", "down", "restart", "restore", "backup", "shards add", "shards remove", "serve",
    "dead", "trace {dead}", "conversations rotate", "conversations revoke", "service",
)  # fmt: skip
LINES = [
    line
    for line in dict.fromkeys((*json_schemas.RUNS, "answer 999999", "ask why? --shard none"))
    if not line.startswith(ONCE)
]
# They go on until they are stopped.
FOLLOWING = ["messages --follow", "messages --follow --json", "logs -f", "logs -f --json",
             "status --watch", "status --watch --json"]  # fmt: skip
LOST = {"closed": ">&-", "both closed": ">&- 2>&-", "full": "> /dev/full"}
KEPT = {"no input": "<&-", "errors closed": "2>&-", "errors full": "2> /dev/full", "LANG=C": ""}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("bad") / "home", CONFIG).running() as place:
        place.ask("why?")
        yield place


def known(place: Place) -> dict[str, str]:
    conversation = place.json("conversations", "create", "--shard", "main")["conversation"]
    return {"answered": "1", "own": conversation, "conversation": conversation}


def run(place: Place, runs: list[tuple[str, str]]) -> list[tuple[int, str, str]]:
    names = known(place)
    lines = [(shlex.split(line.format(**names)), way) for line, way in runs]
    done = subprocess.run(
        [sys.executable, WAYS_PROGRAM], input=json.dumps(lines), cwd=place.root, text=True,
        env=place.environ | {"HOME": str(place.root.parent)}, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    return [tuple(each) for each in json.loads(done.stdout)]


def expected(way: str, good: int, prints: bool) -> set[int]:
    """Return the exit codes that a line which comes to `good` may have in a state."""
    if way.startswith("Ctrl-C"):
        return {good, Exit.INTERRUPTED}
    if prints and way in ("closed", "both closed", "full"):
        return {max(good, Exit.FAILED)}
    return {Exit.READER_GONE if prints and way in ("gone", "both gone") else good}


@pytest.mark.parametrize("way", BAD_WAYS)
def test_every_command_ends_well_beside_a_home_at_work(up: Place, way: str) -> None:
    came = run(up, [(line, each) for line in LINES for each in ("good", way)])
    wrong = []
    for line, good, bad in zip(LINES, came[::2], came[1::2], strict=True):
        code, out, err = bad
        on_terminal = way == "20 columns"
        if line == "top" and on_terminal:
            continue  # it goes on there: see test_top.py
        if code not in expected(way, good[0], bool(good[1])):
            wrong.append(f"{line}: exit {code} after {good[0]}: {(out + err)[-300:]!r}")
        if "Traceback" in out + err or "this is a bug" in out + err:
            wrong.append(f"{line}: {(out + err)[-300:]!r}")
        if err.count("autopoll: ") > max(1, good[2].count("autopoll: ")):
            wrong.append(f"{line}: more than one error: {err[-300:]!r}")
    assert wrong == []
    assert up.ask("and now?")["status"] == "answered"


def begin(place: Place, line: str, streams: str, **environ: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["bash", "-c", f"exec {shlex.join([*place.command, *line.split()])} {streams}"],
        cwd=place.root, env=place.environ | environ, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def require_one_line(err: str) -> None:
    assert "Traceback" not in err and "this is a bug" not in err
    assert err.count("autopoll: ") <= 1, err


@pytest.mark.parametrize("way", LOST)
@pytest.mark.parametrize("line", FOLLOWING)
def test_what_follows_ends_by_itself_where_it_cannot_print(up: Place, line: str, way: str) -> None:
    process = begin(up, line, LOST[way])
    up.ask("one more?")
    _, err = process.communicate(timeout=30)
    assert process.returncode == Exit.FAILED, err
    require_one_line(err)
    assert "2>&-" in LOST[way] or err


@pytest.mark.parametrize("line", FOLLOWING)
def test_what_follows_ends_in_silence_when_its_reader_goes(up: Place, line: str) -> None:
    process = begin(up, line, "")
    assert process.stdout and process.stderr
    up.ask("one more?")
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == Exit.READER_GONE
    assert process.stderr.read() == ""


@pytest.mark.parametrize("way", KEPT)
@pytest.mark.parametrize("line", FOLLOWING)
def test_what_follows_goes_on_where_it_can_print_and_ends_by_ctrl_c(
    up: Place, line: str, way: str
) -> None:
    environ = {"LANG": "C", "LC_ALL": "C"} if way == "LANG=C" else {}
    process = begin(up, line, KEPT[way], **environ)
    assert process.stdout
    up.ask("größer?")
    assert process.stdout.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == Exit.INTERRUPTED, err
    require_one_line(out + err)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("line", FOLLOWING)
def test_what_follows_ends_at_once_by_a_signal(
    up: Place, line: str, number: signal.Signals
) -> None:
    process = begin(up, line, "")
    assert process.stdout
    up.ask("one more?")
    assert process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode in (-number, 128 + number)
    assert "Traceback" not in out + err


@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.parametrize("line", [*FOLLOWING, "top"])
def test_on_a_terminal_of_20_columns_it_is_shown_and_ends_by_ctrl_c(
    up: Place, line: str, term: str
) -> None:
    environ = up.environ | {"TERM": term}
    terminal = OnTerminal([*up.command, *line.split()], up.root, environ, (20, 24))
    try:
        if (line, term) == ("top", "dumb"):
            assert terminal.ends() == Exit.USAGE
            return
        up.ask("one more?")
        terminal.until(lambda: terminal.text.strip(), what="anything")
        os.killpg(terminal.process.pid, signal.SIGINT)  # as the terminal does by Ctrl-C
        code = terminal.ends()
        assert code == Exit.INTERRUPTED
        assert "Traceback" not in terminal.text
        assert terminal.text.count("autopoll: ") <= 1
    finally:
        terminal.close()


def test_a_home_is_whole_after_all_of_that(up: Place) -> None:
    until(lambda: up.json("status")["queue"]["leased"] == 0, what="an idle home")
    assert up.json("health")["verdict"] == "ok"
