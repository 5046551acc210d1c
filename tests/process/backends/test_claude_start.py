"""How `claude-code` starts, what it refuses before that, and what it gives the CLI."""

import json
import os
import stat
import time
from pathlib import Path

import pytest
from claude_scene import ask, make, play, told, until, waiting
from fake_cli import set_mood
from listener import Listener

from autopoll.backends import open_backend
from autopoll.backends.claude_code import program as program_module
from autopoll.backends.claude_code.claude_backend import ClaudeCode
from autopoll.backends.contract import Broken, Setting
from autopoll.errors import ConfigError
from autopoll.request import Reply

KEY = "sk-ant-test-0123456789abcdef"


# --- starting


def test_a_cli_that_does_not_start_is_broken_in_its_own_words(home, cli) -> None:
    set_mood(cli, "die")
    backend = make(home, cli)
    with pytest.raises(Broken, match="error: no such option --tools"):
        play(backend, told)  # type: ignore[arg-type]


def test_a_cli_that_is_never_ready_is_broken_within_its_time(home, cli) -> None:
    set_mood(cli, "deaf")
    with pytest.raises(Broken, match="said nothing for 1 s"):
        play(make(home, cli, connect_timeout="1s"), told)  # type: ignore[arg-type]


def test_a_cli_that_is_slow_to_start_is_waited_for(home, cli) -> None:
    set_mood(cli, "slow=1.5")

    async def scene(backend: ClaudeCode) -> None:
        assert "after 0 others" in await told(backend, "and now?")

    play(make(home, cli), scene)


def test_when_no_new_process_can_be_made_the_instance_is_broken(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        await until(lambda: len(waiting(backend)) == 2)
        set_mood(cli, "die")
        await told(backend, "the first spare?")
        await told(backend, "the second?")
        with pytest.raises(Broken, match="does not start"):
            await told(backend, "and now?")
        with pytest.raises(Broken, match="does not start"):
            await backend.probe()

    play(make(home, cli), scene)


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("version=1.0.83", "is version 1.0.83, and 2.1.248 or newer is needed"),
        ("version=2.1.68", "is version 2.1.68, and 2.1.248 or newer is needed"),
        ("no-version", "does not say its version: what?"),
    ],
)
def test_a_cli_that_is_too_old_is_refused_before_the_start(home, cli, mood, words) -> None:
    set_mood(cli, mood)
    os.utime(cli, ns=(time.time_ns(), time.time_ns()))  # another file than in other tests
    with pytest.raises(ConfigError) as refusal:
        make(home, cli)
    assert words in refusal.value.what
    assert "pip install 'autopoll[claude]'" in refusal.value.mend


@pytest.mark.parametrize("path", ["missing", ".", "docs/notes.md", "a\0b", ""])
def test_a_cli_that_is_not_there_is_refused_before_the_start(home, path) -> None:
    with pytest.raises(ConfigError, match="cli_path"):
        make(home, path)


def test_without_any_cli_the_pip_command_is_named(home, monkeypatch) -> None:
    monkeypatch.setattr(program_module, "bundled", lambda: None)
    monkeypatch.setenv("PATH", str(home))
    setting = Setting(shard="history", root=home, context=[], options={})
    with pytest.raises(ConfigError) as refusal:
        open_backend("claude-code", setting)
    assert "shard history: the Claude Code CLI is not installed" in refusal.value.what
    assert "pip install 'autopoll[claude]'" in refusal.value.mend


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tools": ["Bash"]}, "tools"),
        ({"tools": ["Read(/etc/**)"]}, "tools"),
        ({"model": "haiku --dangerously-skip-permissions"}, "model"),
        ({"model": ""}, "model"),
        ({"session": "for ever"}, "session"),
        ({"pool": 0}, "pool"),
        ({"pool": 2, "concurrency": 3}, "pool: 2 is below `concurrency`"),
        ({"env": ["CLAUDECODE"]}, "CLAUDECODE may not be passed on"),
        ({"key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set"),
        ({"key_file": "missing.key"}, "key_file"),
        ({"stall_timeout": 5}, "stall_timeout"),
        ({"max_memory": "much"}, "max_memory"),
    ],
    ids=str,
)
def test_an_option_that_cannot_work_is_refused_before_the_start(home, cli, options, words) -> None:
    with pytest.raises(ConfigError) as refusal:
        make(home, cli, **options)
    assert words in refusal.value.what


# --- what the CLI is given


def test_the_cli_gets_the_allowed_environment_and_no_descriptor_of_ours(
    home, cli, monkeypatch
) -> None:
    monkeypatch.setenv("CLAUDECODE", "1")
    monkeypatch.setenv("CLAUDE_CODE_SESSION_ID", "outer")
    monkeypatch.setenv("SECRET_OF_SOMEBODY", "hush")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", "/somewhere")
    monkeypatch.setenv("AUTOPOLL_INSTANCE", "worker-main-7")
    monkeypatch.setenv("WANTED", "yes")
    theirs = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(theirs, True)

    async def scene(backend: ClaudeCode) -> None:
        seen = json.loads(await told(backend, "!self"))
        environ = seen["environment"]
        assert not {"CLAUDECODE", "CLAUDE_CODE_SESSION_ID", "SECRET_OF_SOMEBODY"} & environ.keys()
        assert environ["CLAUDE_CONFIG_DIR"] == "/somewhere"
        assert environ["AUTOPOLL_INSTANCE"] == "worker-main-7"  # by which orphans are found
        assert environ["WANTED"] == "yes"
        assert environ["CLAUDE_CODE_ATTRIBUTION_HEADER"] == "0"
        assert int(environ["API_TIMEOUT_MS"]) > 60_000
        assert Path(environ["TMPDIR"]).is_relative_to(home / "var" / "run" / "claude")
        assert seen["descriptors"] == []
        assert seen["files"] == []

    play(make(home, cli, env=["WANTED"]), scene)
    os.close(theirs)


def test_a_key_is_in_the_environment_of_the_cli_and_nowhere_else(home, cli, monkeypatch) -> None:
    key = home / "my.key"
    key.write_text(f"{KEY}\n")
    key.chmod(0o600)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "another login")

    async def scene(backend: ClaudeCode) -> None:
        seen = json.loads(await told(backend, "!self"))
        assert seen["environment"]["ANTHROPIC_API_KEY"] == KEY
        assert "ANTHROPIC_AUTH_TOKEN" not in seen["environment"]
        assert KEY not in " ".join(seen["arguments"])
        for path in (home / "var").rglob("*"):
            assert not path.is_file() or KEY not in path.read_text()
        assert KEY not in repr(vars(backend))

    play(make(home, cli, key_file="my.key"), scene)


def test_the_private_folder_is_private_and_what_a_dead_worker_left_in_it_is_removed(
    home, cli, monkeypatch
) -> None:
    monkeypatch.setenv("AUTOPOLL_INSTANCE", "worker")
    folder = home / "var" / "run" / "claude"
    left = folder / "worker" / "left" / "system.md"
    left.parent.mkdir(parents=True)
    left.write_text("old")

    async def scene(backend: ClaudeCode) -> None:
        assert not left.exists()
        for path in (folder / "worker").rglob("*"):
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path

    play(make(home, cli), scene)


def test_with_tools_the_cli_stands_among_copies_of_the_context_and_of_nothing_else(
    home, cli
) -> None:
    docs = home / "docs"
    (home / "secret").write_text("hush")
    (docs / ".hidden").write_text("hush")
    (docs / "link.md").symlink_to("../secret")
    (docs / "deep").mkdir()
    (docs / "deep" / "more.md").write_text("deeper\n")
    (docs / "binary").write_bytes(b"\0\1")

    async def scene(backend: ClaudeCode) -> None:
        seen = json.loads(await told(backend, "!self"))
        assert seen["files"] == ["docs/deep/more.md", "docs/notes.md"]
        line = seen["arguments"]
        assert line[line.index("--tools") + 1] == "Read,Grep"
        assert line[line.index("--allowed-tools") + 1] == "Read(./**)"
        (docs / "late.md").write_text("late\n")
        seen = json.loads(await told(backend, "!self"))
        assert "docs/late.md" in seen["files"]

    play(make(home, cli, tools=["Read", "Grep"]), scene)


def test_the_users_own_settings_are_loaded_only_when_asked_for(home, cli) -> None:
    async def arguments(backend: ClaudeCode) -> str:
        return " ".join(json.loads(await told(backend, "!self"))["arguments"])

    async def plain(backend: ClaudeCode) -> None:
        line = await arguments(backend)
        assert "--setting-sources= " in f"{line} "
        assert "--strict-mcp-config" in line

    async def with_settings(backend: ClaudeCode) -> None:
        line = await arguments(backend)
        assert "--setting-sources=user" in line
        assert "--strict-mcp-config" not in line

    play(make(home, cli), plain)
    play(make(home, cli, user_settings=True), with_settings)


def test_a_question_of_a_megabyte_and_odd_characters_are_taken(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        reply = await backend.answer(ask("\ud800 \u2028 \0 " + "x" * 1_000_000), Listener())
        assert isinstance(reply, Reply)

    play(make(home, cli), scene)
