"""What a shell completes: quickly, rightly, and in silence whatever is missing."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
from bridge_calls import OWN, answered, ask, claim, failed, settle, talk
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.cli import COMMANDS, commands, main
from autopoll.errors import Exit
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.message import write_query

SHELLS = ("bash", "zsh", "fish")
# Parameters of these names stand for something that a home knows.
KNOWN = {"shard", "conversation", "ids", "message_id", "name", "names"}
Tab = Callable[..., list[str]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = prepared_home(tmp_path)
    (home.root / "shards.d").mkdir(mode=0o700)
    file = home.root / "shards.d" / "history.toml"
    file.write_text('backend = "echo"\ninstances = 2\n')
    return home


@pytest.fixture
def bridge(home: Home) -> Iterator[Bridge]:
    with closing(connect(home, load(home, {}))) as bridge:
        yield bridge


@pytest.fixture
def tab(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tab:
    """Return what a word may become, as bash is told; the last word is the one to complete."""
    monkeypatch.chdir(home.root)
    monkeypatch.delenv("AUTOPOLL_HOME", raising=False)
    monkeypatch.setenv("_AUTOPOLL_COMPLETE", "bash_complete")

    def press(*words: str, code: int | None = 0) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", " ".join(["autopoll", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        try:
            found = main([])
        except SystemExit as ended:
            found = int(ended.code or 0)
        out, err = capsys.readouterr()
        assert err == ""
        assert found == code or (code is None and found in (Exit.OK, Exit.FAILED))
        return [line.partition(",")[2] for line in out.splitlines() if line]

    return press


def test_commands_and_options_are_completed(tab: Tab) -> None:
    assert tab("sta") == ["status"]
    assert set(tab("")) >= {name for names in COMMANDS.values() for name in names}
    assert "--home" in tab("--")
    assert tab("conversations", "se") == ["search"]
    assert "--follow" in tab("messages", "--f")
    assert tab("serve", "conv_x", "--session", "") == ["a", "b"]


def test_shards_and_processes_are_completed(tab: Tab) -> None:
    assert tab("ask", "--shard", "") == ["main", "history"]
    assert tab("ask", "--shard", "main,h") == ["main,history"]
    assert tab("ask", "--shard=hi") == ["history"]
    assert tab("shards", "remove", "h") == ["history"]
    assert tab("shards", "add", "h") == []
    workers = ["worker", "worker-history-1", "worker-history-2"]
    assert tab("restart", "w") == ["watchdog", *workers]
    assert tab("logs", "worker-history-1", "") == [] == tab("restart", "no")


def test_conversations_are_completed(tab: Tab, bridge: Bridge) -> None:
    served, silent = talk(bridge), talk(bridge, None)
    ask(bridge, silent, "said")
    [listed] = [each.id for each in bridge.conversations.all()][:1]
    for words in (
        ["conversations", "show"], ["messages", "--conversation"], ["inbox"], ["send"],
        ["audit", "--conversation"], ["serve"], ["conversations", "rotate"],
    ):  # fmt: skip
        assert {served, silent, listed} <= set(tab(*words, ""))
    assert tab("conversations", "show", served[:-2])[0] == served


def test_ids_are_completed_the_newest_first_and_each_once(tab: Tab, bridge: Bridge) -> None:
    conversation = talk(bridge)
    ids = ask(bridge, conversation, write_query("Why, oh\nwhy?", "q"), "two", metadata=OWN)
    [first, second] = claim(bridge, 2)
    settle(bridge, answered(first))
    settle(bridge, failed(second, permanent=True))
    assert tab("answer", "") == [str(each) for each in reversed(ids)]
    assert tab("answer", str(ids[0]), "") == [str(ids[1])]
    for command in ("show", "retry", "drop"):
        assert tab("dead", command, "") == [str(ids[1])]


def test_files_and_folders_are_left_to_the_shell(
    tab: Tab, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tab("shards", "add", "x", "--context", "do") == ["do"]
    assert tab("send", "conv_x", "hi", "--token-file", "t") == ["t"]
    assert tab("init", "d") == ["d"] == tab("--home", "d")


def test_another_home_is_looked_at_where_it_is_named(
    tab: Tab, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert tab("ask", "--shard", "") == []
    assert tab("--home", str(home.root), "ask", "--shard", "h") == ["history"]
    assert tab("ask", "--home", str(home.root), "--shard", "h") == ["history"]
    monkeypatch.setenv("AUTOPOLL_HOME", str(home.root))
    assert tab("ask", "--shard", "h") == ["history"]


@pytest.mark.parametrize("how", ["no home", "broken", "no var", "no store", "shut", "garbage"])
def test_whatever_is_missing_or_broken_nothing_is_said(tab: Tab, home: Home, how: str) -> None:
    database = home.var / "bridge.db"
    if how == "no home":
        home.config.unlink()
    elif how == "broken":
        home.config.write_text("[shards")
    elif how == "no var":
        shutil.rmtree(home.var)
    elif how == "no store":
        database.unlink()
    elif how == "shut":
        home.root.chmod(0o777)
    else:
        database.write_bytes(b"\x00garbage" * 1000)
        home.credentials.write_bytes(b"\xff{")
    for words in (["ask", "--shard", ""], ["answer", ""], ["conversations", "show", ""],
                  ["dead", "show", ""], ["restart", ""], ["logs", ""]):  # fmt: skip
        tab(*words)
    home.root.chmod(0o755)


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense", ""], ["ask", "--nonsense", ""], ["\x1b[2J", ""], ["'", ""],
        ["--home", "", "x"],
        ["answer", "x", ""], ["dead", "nonsense", ""], ["messages", "--limit", "x", ""],
    ],
)  # fmt: skip
def test_a_line_that_is_wrong_is_completed_in_silence(tab: Tab, words: list[str]) -> None:
    tab(*words, code=None)


@pytest.mark.parametrize("number", ["", "x", "-1", "99999999999999999999"])
def test_a_shell_that_asks_nonsense_gets_nothing(tab: Tab, home: Home, number: str) -> None:
    environ = {**os.environ, "_AUTOPOLL_COMPLETE": "bash_complete", "COMP_WORDS": "autopoll x",
               "COMP_CWORD": number}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "autopoll"], env=environ, capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_words_that_others_made_up_cannot_harm_the_shell(tab: Tab, bridge: Bridge) -> None:
    import apsw

    evil = ["*", "a b", "$(touch pwned)", "`x`", "a\nplain,b", "\x1b[2J", "-rf", "ü", "a,b"]
    conversation = talk(bridge)
    driver = apsw.Connection(bridge._db.driver.filename)  # type: ignore[attr-defined]
    for name in evil:
        driver.execute(
            "INSERT INTO messages(conversation_id,from_session,to_session,message,timestamp,read)"
            " VALUES(?,'a','b','x','2026-03-01T10:00:00',0)",
            (name,),
        )
    driver.close()
    found = tab("conversations", "show", "")
    assert conversation in found
    assert not {"*", "a b", "$(touch pwned)", "`x`", "b", "\x1b[2J", "a,b"} & set(found)


def test_completing_changes_nothing(tab: Tab, home: Home, bridge: Bridge) -> None:
    ask(bridge, talk(bridge), "one")

    def seen() -> dict[str, object]:
        return {
            str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in home.root.rglob("*")
            if path.is_file() and not path.name.endswith(("-shm", "-wal"))
        }

    before = seen()
    for words in (["answer", ""], ["conversations", "show", ""], ["dead", "show", ""],
                  ["up", "--"], ["down", ""], ["restart", ""], ["init", ""]):  # fmt: skip
        tab(*words)
    assert seen() == before


def test_completing_imports_nothing_heavy(home: Home) -> None:
    code = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        "sys.argv = ['autopoll']\n"
        "from autopoll.cli import main; main()\n"
    )
    for words, kept in (("st", 3), ("ask --shard ", 99), ("answer ", 99)):
        environ = {**os.environ, "_AUTOPOLL_COMPLETE": "bash_complete",
                   "COMP_WORDS": f"autopoll {words}",
                   "COMP_CWORD": str(len(words.split(" ")))}  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code], env=environ, cwd=home.root, capture_output=True, text=True
        )
        loaded = set(done.stderr.split())
        heavy = {"asyncio", "rich", "supervisor", "xmlrpc", "psutil", "psycopg", "fastapi", "mcp"}
        assert not loaded & heavy, words
        mine = {name for name in loaded if name.startswith("autopoll.cli.")}
        assert len(mine) <= kept, "a command is imported only where it is the one to complete"


def test_every_parameter_that_a_home_knows_is_completed() -> None:
    found = 0

    def look(command: click.Command, context: click.Context) -> None:
        nonlocal found
        for param in command.params:
            plain = isinstance(param.type, click.types.StringParamType | click.IntRange)
            if param.name in KNOWN and plain:
                assert param._custom_shell_complete is not None, f"{context.command_path} {param}"
                found += 1
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child
                look(child, click.Context(child, context, name))

    look(commands, click.Context(commands, info_name="autopoll"))
    assert found > 20


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script(
    shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["completion", shell]) == Exit.OK
    out, err = capsys.readouterr()
    assert f"_AUTOPOLL_COMPLETE={shell}_complete" in out and err == ""
    assert main(["completion", "csh"]) == Exit.USAGE
