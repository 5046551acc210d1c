"""Plays a scene with the backend `claude-code` and sees that nothing is left of it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from listener import Listener
from place import leaving_no_process

from autopoll.backends import open_backend
from autopoll.backends.claude_code.claude_backend import ClaudeCode
from autopoll.backends.contract import Setting, Unanswered
from autopoll.request import Request

Scene = Callable[[ClaudeCode], Awaitable[None]]


def make(home: Path, cli: Path, **options: Any) -> ClaudeCode:
    options = {"cli_path": str(cli), **options}
    setting = Setting(shard="main", root=home, context=[home / "docs"], options=options)
    backend = open_backend("claude-code", setting)
    assert isinstance(backend, ClaudeCode)
    return backend


def play(backend: ClaudeCode, scene: Scene) -> None:
    """Start it, play, stop it, and see that no process and no file is left."""

    async def whole() -> None:
        await backend.start()
        try:
            await scene(backend)
        finally:
            await backend.stop()

    with leaving_no_process():
        asyncio.run(whole())
    assert not (backend._setting.root / "var" / "run" / "claude").exists()


def ask(question: str) -> Request:
    return Request(
        delivery=1, fence=1, attempt=1, timeout_ms=9000, conversation="c", question=question
    )


async def told(backend: ClaudeCode, question: str) -> str:
    return (await backend.answer(ask(question), Listener())).answer.text


async def failure(backend: ClaudeCode, question: str) -> Unanswered:
    with pytest.raises(Unanswered) as caught:
        await backend.answer(ask(question), Listener())
    return caught.value


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s"
        await asyncio.sleep(0.01)
    return value


def waiting(backend: ClaudeCode) -> list[int]:
    """Return the processes that wait for a question."""
    assert backend._pool is not None
    return [session.pid for session in backend._pool._spares if session.pid]


def children() -> list[int]:
    return [each.pid for each in psutil.Process().children()]


async def teller(backend: ClaudeCode, question: str = "!self") -> int:
    return int(json.loads(await told(backend, question))["pid"])
