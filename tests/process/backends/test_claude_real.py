"""The backend `claude-code` with the real CLI out of the SDK's wheel, against a mock of the API."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from claude_account import KEY, account
from claude_scene import ask, failure, play, told, until, waiting
from listener import Listener
from mock_api.server import MockApi, running

from autopoll.backends import open_backend
from autopoll.backends.claude_code.claude_backend import ClaudeCode
from autopoll.backends.contract import Permanent, Retriable, Setting, Unavailable

pytestmark = [pytest.mark.claude, pytest.mark.long]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MockApi]:
    with running(key=KEY) as api:
        for name, value in account(tmp_path, api.url).items():
            monkeypatch.setenv(name, value)
        yield api


def make(home: Path, **options: Any) -> ClaudeCode:
    setting = Setting(
        shard="main", root=home, context=[home / "docs"], options={"model": "haiku", **options}
    )
    backend = open_backend("claude-code", setting)
    assert isinstance(backend, ClaudeCode)
    return backend


def sent(api: MockApi) -> str:
    """Return all that was sent to the service."""
    return json.dumps(list(api.requests))


def test_it_answers_with_sources_from_a_prompt_that_can_be_cached(home, api) -> None:
    async def scene(backend: ClaudeCode) -> None:
        listener = Listener()
        reply = await backend.answer(ask("What about the tulip?"), listener)
        assert reply.answer.text == "You asked: What about the tulip? [docs/notes.md:3-3]"
        assert reply.answer.sources == ["docs/notes.md:3-3"]
        assert "".join(listener.pieces) == reply.answer.text
        again = await backend.answer(ask("And the tulip again?"), Listener())
        assert reply.usage and again.usage
        assert reply.usage.input_tokens > again.usage.input_tokens > 0
        assert again.usage.cached_tokens > 0 < again.usage.output_tokens
        assert again.usage.cost_usd

    play(make(home), scene)
    bodies = [each["body"] for each in api.asked]
    assert len(bodies) == 2
    assert bodies[0]["system"] == bodies[1]["system"]
    assert "cache_control" in json.dumps(bodies[0]["system"])
    assert not bodies[0].get("tools")


def test_a_question_is_put_as_it_is_written(home, api, tmp_path) -> None:
    (tmp_path / "secret").write_text("pineapple")
    question = f"@{tmp_path}/secret and @/etc/hostname /help !ls #memory"

    async def scene(backend: ClaudeCode) -> None:
        assert question in await told(backend, question)

    play(make(home), scene)
    assert "pineapple" not in sent(api)
    assert len(api.asked) == 1


FAILURES = [
    ("!429=7", Unavailable, "rate-limit", 7_000),
    ("!529", Unavailable, "overloaded", 0),
    ("!401", Unavailable, "credentials", 0),
    ("!403", Unavailable, "credentials", 0),
    ("!credit", Unavailable, "quota", 0),
    ("!500", Retriable, "", 0),
    ("!drop", Retriable, "", 0),
    ("!cut", Retriable, "", 0),
    ("!garbage", Retriable, "", 0),
    ("!empty", Retriable, "", 0),
    ("!stall", Retriable, "", 0),
    ("!hang", Retriable, "", 0),
    ("!toolong", Permanent, "", 0),
    ("!404", Permanent, "", 0),
    ("!refusal", Permanent, "", 0),
]


def test_every_failure_of_the_service_is_told_as_what_it_is_and_the_next_is_answered(
    home, api
) -> None:
    async def scene(backend: ClaudeCode) -> None:
        for mood, kind, cause, wait in FAILURES:
            error = await failure(backend, mood)
            assert type(error) is kind, (mood, error)
            if isinstance(error, Unavailable):
                assert error.kind == cause, mood
                assert (error.resume_after_ms or 0) >= wait, mood
        assert "You asked" in await told(backend, "and now?")

    play(make(home, stall_timeout="1500ms"), scene)


def test_without_a_login_it_says_so(home, api, monkeypatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")

    async def scene(backend: ClaudeCode) -> None:
        error = await failure(backend, "anybody there?")
        assert isinstance(error, Unavailable)
        assert error.kind == "credentials"
        assert "log in" in error.mend

    play(make(home), scene)


def test_a_cli_that_is_killed_or_stopped_in_mid_query_is_replaced(home, api) -> None:
    async def strike(backend: ClaudeCode, number: int) -> None:
        asking = asyncio.create_task(failure(backend, f"!delay=20000 {number}"))
        assert backend._pool is not None
        (session,) = await until(lambda: backend._pool._out)
        asked = len(api.asked)
        await until(lambda: len(api.asked) > asked)
        os.kill(session.pid, number)
        error = await asking
        assert isinstance(error, Retriable)
        assert ("SIGKILL" if number == signal.SIGKILL else "stopped by a signal") in error.what

    async def scene(backend: ClaudeCode) -> None:
        for number in (signal.SIGKILL, signal.SIGSTOP):
            await strike(backend, number)
            assert "You asked: and now?" in await told(backend, "and now?")

    play(make(home), scene)


def test_it_reads_within_the_context_and_nowhere_else(home, api, tmp_path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("pineapple")
    docs = home / "docs"
    (docs / "link.md").symlink_to(secret)
    (docs / "etc").symlink_to("/etc")
    (docs / ".hidden").write_text("pineapple")
    (home / "var").mkdir()
    (home / "var" / "credentials").write_text("pineapple")
    hostname = Path("/etc/hostname").read_text().strip()
    outside = [
        ("Read", {"file_path": "/etc/hostname"}),
        ("Read", {"file_path": "../secret"}),
        ("Read", {"file_path": "../../../../../../secret"}),
        ("Read", {"file_path": str(secret)}),
        ("Read", {"file_path": str(home / "docs" / "notes.md")}),
        ("Read", {"file_path": "docs/link.md"}),
        ("Read", {"file_path": "docs/etc/hostname"}),
        ("Read", {"file_path": "docs/.hidden"}),
        ("Read", {"file_path": "/proc/self/environ"}),
        ("Read", {"file_path": str(tmp_path / "user" / ".claude" / ".claude.json")}),
        ("Grep", {"pattern": "pineapple|tulip", "path": str(home), "output_mode": "content"}),
        ("Grep", {"pattern": ".", "path": "/etc", "glob": "hostname", "output_mode": "content"}),
        ("Grep", {"pattern": "pineapple", "path": "..", "output_mode": "content"}),
        ("Bash", {"command": "cat /etc/hostname"}),
        ("Write", {"file_path": str(tmp_path / "made"), "content": "x"}),
    ]

    async def scene(backend: ClaudeCode) -> None:
        for tool, given in [
            ("Read", {"file_path": "docs/notes.md"}),
            ("Grep", {"pattern": "tulip", "output_mode": "content"}),
        ]:
            assert "The tulip is yellow" in await result_of(backend, tool, given)
        for tool, given in outside:
            result = await result_of(backend, tool, given)
            assert "tulip is" not in result, (tool, given)
            assert "denied" in result or "error" in result.lower() or "not exist" in result, result
        assert "pineapple" not in await result_of(backend, "Grep", {"pattern": "pineapple"})

    async def result_of(backend: ClaudeCode, tool: str, given: dict[str, str]) -> str:
        """Have the model use a tool, and return what it is told in turn."""
        await told(backend, f"!tool={tool} {json.dumps(given)}")
        said = [each["content"] for each in api.asked[-1]["body"]["messages"]]
        blocks = [block for each in said if isinstance(each, list) for block in each]
        return json.dumps([each for each in blocks if each["type"] == "tool_result"][-1])

    (docs / "notes.md").write_text("# Hues\n\nThe tulip is yellow.\n" + "More of it.\n" * 20_000)
    # Too large to be in the prompt, so that what the model knows comes from its tools.
    play(make(home, tools=["Read", "Grep"], context_tokens=500, session="kept"), scene)
    told_all = sent(api).replace('pineapple\\"', "").replace("pineapple|tulip", "")
    assert "pineapple" not in told_all.replace('"pattern": "pineapple', "")
    assert hostname not in json.dumps([each["body"]["messages"] for each in api.asked])
    assert not (tmp_path / "made").exists()


def test_the_users_own_settings_are_not_loaded_unless_asked_for(home, api, tmp_path) -> None:
    own = tmp_path / "user" / ".claude"
    (own / "CLAUDE.md").write_text("Always say pineapple.\n")
    hook = {"hooks": [{"type": "command", "command": f"touch {tmp_path}/hooked"}]}
    settings = {"hooks": {"UserPromptSubmit": [hook], "SessionStart": [hook]}}
    (own / "settings.json").write_text(json.dumps(settings))
    server = {"command": "sh", "args": ["-c", f"touch {tmp_path}/served"]}
    (own / ".claude.json").write_text(json.dumps({"mcpServers": {"mine": server}}))
    (home / "docs" / "CLAUDE.md").write_text("Speak of mangoes.\n")

    async def scene(backend: ClaudeCode) -> None:
        await told(backend, "hello?")
        await until(lambda: len(waiting(backend)) == 2)

    play(make(home), scene)
    assert not (tmp_path / "hooked").exists()
    assert not (tmp_path / "served").exists()
    assert "pineapple" not in sent(api)
    play(make(home, user_settings=True), scene)
    assert (tmp_path / "hooked").exists()
    assert (tmp_path / "served").exists()


def test_it_leaves_nothing_in_the_users_folder_but_its_own_settings(home, api, tmp_path) -> None:
    async def scene(backend: ClaudeCode) -> None:
        for number in range(3):
            await told(backend, f"number {number}?")
        await failure(backend, "!500")

    play(make(home), scene)
    own = tmp_path / "user" / ".claude"
    assert not [each for each in (own / "sessions").rglob("*") if each.is_file()]
    assert not (own / "projects").exists()
    assert not list((tmp_path / "tmp").iterdir())
