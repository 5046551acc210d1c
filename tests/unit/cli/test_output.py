"""Everything goes out by one door, and output that cannot be written is told by the exit code."""

import ast
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import autopoll
from autopoll.cli import main, output
from autopoll.cli.streaming import Live
from autopoll.client.answer_pieces import AnswerPiece
from autopoll.errors import Exit
from autopoll.text import visible

PACKAGE = Path(autopoll.__file__).parent
DATA = Path(__file__).parents[2] / "data"
ECHO = '[shards.main]\nbackend = "echo"\n'
WAYS = [
    "good",
    "closed",
    "errors closed",
    "both closed",
    "full",
    "errors full",
    "gone",
    "both gone",
]
# Those that need no running home, with what they come to in one that is down; `True` where
# something stands on stdout.
QUIET: list[tuple[list[str], int, bool]] = [
    (["--help"], 0, True),
    (["--version"], 0, True),
    (["nonsense\x1b[2J"], 4, False),
    (["status", "--wa\x9btch"], 4, False),
    (["up", "--help"], 0, True),
    (["down"], 0, True),
    (["status"], 2, True),
    (["status", "--json"], 2, True),
    (["health"], 2, True),
    (["incidents"], 0, True),
    (["messages"], 0, True),
    (["messages", "--conversation", "\x1b]0;x\x07"], 2, False),
    (["conversations", "list"], 0, True),
    (["conversations", "create", "--role-a", "\x1b[2Jü"], 0, True),
    (["conversations", "show", "\u202ex"], 2, False),
    (["conversations", "rotate", "x", "a"], 2, False),
    (["conversations", "revoke", "x", "a"], 2, False),
    (["dead", "list"], 0, True),
    (["dead", "show", "1"], 2, False),
    (["dead", "retry", "1"], 2, False),
    (["dead", "drop", "1"], 2, False),
    (["shards"], 0, True),
    (["shards", "remove", "nobody\r"], 2, False),
    (["shards", "add", "x", "--backend", "echo", "--context", "\x1b"], 4, False),
    (["ask", "grüße\x1b[2J"], 2, False),
    (["ask", "grüße", "--no-wait"], 0, True),
    (["answer", "1", "--no-wait"], 0, True),
    (["answer", "99"], 2, False),
    (["inbox", "conv_\x07"], 2, False),
    (["send", "conv_x", "hello"], 2, False),
    (["serve", "conv_x", "--shard", "main"], 2, False),
    (["logs", "no\x1b[2Jbody"], 2, False),
    (["logs", "--since", "\x1b[2J"], 4, False),
    (["audit"], 0, True),
    (["audit", "--conversation", "\x1b[2J"], 2, False),
    (["conversations", "search", "\u202e\x07"], 0, True),
    (["dead", "retry", "--all", "--yes"], 0, True),
    (["top"], 4, False),
    (["top", "--json"], 0, True),
    (["completion", "bash"], 0, True),
    (["completion", "\x1b"], 4, False),
    (["reload"], 2, False),
    (["init"], 0, True),
    (["mcp", "install", "--print"], 0, True),
    (["mcp", "install", "--name", "\x1b"], 4, False),
    (["gateway", "token", "--rotate"], 0, True),
]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, tuple[int, str, str]]]:
    """What each of them came to with its streams in each state."""
    root = tmp_path_factory.mktemp("h")
    (root / "autopoll.toml").write_text(ECHO)
    lines = [["init"], *(args for args, _, _ in QUIET)]
    made: list[tuple[int, str, str]] = json.loads(
        subprocess.run(
            [sys.executable, DATA / "ways.py"],
            cwd=root,
            input=json.dumps([[args, way] for args in lines for way in WAYS]),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    )
    count = len(WAYS)
    rows = [made[start : start + count] for start in range(count, len(made), count)]
    return [dict(zip(WAYS, row, strict=True)) for row in rows]


@pytest.mark.parametrize("number", range(len(QUIET)), ids=lambda number: " ".join(QUIET[number][0]))
def test_every_command_tells_of_output_that_is_lost(
    table: list[dict[str, tuple[int, str, str]]], number: int
) -> None:
    _, code, prints = QUIET[number]
    found = table[number]
    lost = max(code, Exit.FAILED) if prints else code
    expected = dict.fromkeys(found, code)
    expected |= {"closed": lost, "both closed": lost, "full": lost}
    expected |= dict.fromkeys(("gone", "both gone"), Exit.READER_GONE if prints else code)
    assert {way: came[0] for way, came in found.items()} == expected
    for way, (_, out, err) in found.items():
        assert "bug" not in out + err, way
        assert "Traceback" not in out + err, way
        assert visible(out + err) == out + err, way
    assert bool(found["good"][1]) == prints
    if prints:
        for way, reason in (("closed", "closed"), ("full", "No space left on device")):
            assert f"standard output: {reason}" in found[way][2]
        assert "cannot be written" not in found["gone"][2]


def test_nothing_in_the_package_prints_beside_the_one_door() -> None:
    doors = {"cli/output.py", "gateway/mcp/stdio_claim.py"}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if str(path.relative_to(PACKAGE)) in doors:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            prints = name in ("print", "click.echo", "click.secho", "echo", "click.clear")
            if prints or name.startswith(("sys.stdout.write", "sys.stderr.write", "sys.stdout.b")):
                found.append(f"{path}:{node.lineno}: {name}")
    assert found == []


def test_what_is_not_made_harmless_is_only_drawn_in_three_places() -> None:
    """`write` takes text as it is: tables, progress lines and screens, made of visible parts."""
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "autopoll.cli.output"
        for alias in node.names
        if alias.name == "write"
    }
    assert users == {"cli/render.py", "cli/terminal_screen.py"}


def test_a_sequence_in_two_pieces_drives_no_terminal_and_a_cr_waits_for_its_lf(
    capsys: pytest.CaptureFixture[str],
) -> None:
    live = Live(several=False)
    for text in ("one\r", "\ntwo\x1b", "]0;x\x07 three\r", "four\r"):
        live.piece(AnswerPiece(message_id=1, attempt=1, anew=False, text=text))
    assert capsys.readouterr().out == "one\ntwo\\x1b]0;x\\x07 three\\x0dfour"


def test_json_of_half_a_surrogate_pair_is_still_json(capsys: pytest.CaptureFixture[str]) -> None:
    from autopoll.cli.render import print_json

    print_json({"text": "half \ud83d \x9b \u202e", "big": 1})
    assert json.loads(capsys.readouterr().out) == {"text": "half \ud83d \x9b \u202e", "big": 1}


def test_a_stream_that_would_block_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run(
        f"{sys.executable} -c 'import os,sys; os.set_blocking(1, False);"
        'from autopoll.cli.output import say; say("x" * 1_000_000)\' | (sleep 0.2; wc -c)',
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1000001"


@pytest.mark.parametrize("shell", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_a_shell_that_closes_streams_gets_the_exit_code(tmp_path: Path, shell: str) -> None:
    (tmp_path / "autopoll.toml").write_text(ECHO)
    done = subprocess.run(
        f"{sys.executable} -m autopoll incidents {shell}",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == (Exit.OK if shell == "2>&-" else Exit.FAILED)
    assert "Traceback" not in done.stderr
    assert list((tmp_path).iterdir()) == [tmp_path / "autopoll.toml"]


@pytest.mark.parametrize(
    "environ",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
    ],
)
def test_a_question_is_stored_and_shown_whatever_the_locale(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    (tmp_path / "autopoll.toml").write_text(ECHO)
    # fmt: off
    code = (
        "import sys; from autopoll.cli import main; given = sys.argv[1:]\n"
        "assert main(['init']) == 0\n"
        "assert main(['ask', '--no-wait', *given]) == 0\n"
        "assert main(['messages']) == 0\n"
        "assert main(['messages', '--json']) == 0\n"
    )
    # fmt: on
    done = subprocess.run(
        [sys.executable, "-c", code, "für Übung 🙂"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", **environ},
        capture_output=True,
        check=True,
    )
    *text, line = done.stdout.splitlines()
    assert json.loads(json.loads(line)["text"])["question"] == "für Übung 🙂"
    assert b"?bung" not in b"".join(text)


def test_help_is_printed_by_the_same_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", said := io.TextIOWrapper(io.BytesIO()))
    assert main(["ask", "--help"]) == Exit.FAILED
    assert b"standard output: closed" in said.buffer.getvalue()
    with pytest.raises(output.OutputLost):
        output.say("x")
