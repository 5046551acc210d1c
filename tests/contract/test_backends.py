"""What every backend must do, run over all that come with autopoll."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from fake_cli import fake_cli
from listener import Listener
from mock_api import MockApi
from place import leaving_no_process, until

from autopoll.backends import open_backend
from autopoll.backends.contract import Backend, Broken, Setting, Unavailable
from autopoll.errors import ConfigError
from autopoll.request import Refusal, Reply, Request

ANSWERER = Path(__file__).parent.parent / "data" / "answerer.py"
OPTIONS: dict[str, dict[str, Any]] = {
    "claude-code": {"concurrency": 4},
    "extract": {},
    "echo": {"delay": "20ms", "concurrency": 4},
    "command": {"command": [sys.executable, str(ANSWERER)], "ready": True, "concurrency": 4},
    "anthropic": {"model": "mock"},
    "openai": {"model": "mock"},
}
MODELS = {"anthropic": "", "openai": "/v1"}  # where each finds its API in the mocked service
# Those with a service behind them, that refuses what begins with `refused`.
SERVED = ["claude-code", "command", *MODELS]
Build = Callable[[], Backend]


@pytest.fixture(params=sorted(OPTIONS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def api() -> Iterator[MockApi]:
    with MockApi() as api:
        yield api


@pytest.fixture
def build(name: str, tmp_path: Path, api: MockApi) -> Build:
    notes = tmp_path / "notes.md"
    words = ["alpha", "bravo", "charlie", "delta"]
    notes.write_text("\n\n".join(f"# About {word}\n\nThe {word} is here." for word in words))
    options = dict(OPTIONS[name])
    if name in MODELS:
        options["base_url"] = api.url + MODELS[name]
    if name == "claude-code":
        options["cli_path"] = str(fake_cli(tmp_path))
    setting = Setting(shard="main", root=tmp_path, context=[notes], options=options)
    return lambda: open_backend(name, setting)


def ask(question: str) -> Request:
    return Request(
        delivery=1, fence=1, attempt=1, timeout_ms=5000, conversation="c", question=question
    )


async def answered(backend: Backend, word: str, how: str = "slow") -> None:
    reply = await backend.answer(ask(f"{how} {word}?"), Listener())
    assert isinstance(reply, Reply)
    assert word in reply.answer.text
    assert not reply.answer.error


@pytest.mark.long
def test_it_starts_answers_proves_itself_and_stops(build: Build) -> None:
    async def scene() -> None:
        backend = build()
        await backend.start()
        await backend.probe()
        await answered(backend, "alpha")
        await answered(backend, "bravo")
        await backend.stop()

    asyncio.run(scene())


def test_stopping_is_tolerated_before_start_and_twice(build: Build) -> None:
    async def scene() -> None:
        backend = build()
        await backend.stop()
        await backend.start()
        await backend.stop()
        await backend.stop()

    asyncio.run(scene())


def test_it_is_broken_before_start_and_after_stop(build: Build) -> None:
    async def scene() -> None:
        backend = build()
        for _ in range(2):
            with pytest.raises(Broken):
                await backend.probe()
            with pytest.raises(Broken):
                await backend.answer(ask("alpha?"), Listener())
            await backend.start()
            await backend.stop()

    asyncio.run(scene())


def test_after_a_cancellation_the_next_answer_is_its_own(build: Build) -> None:
    async def scene() -> None:
        backend = build()
        await backend.start()
        for pause in (0, 0.001, 0.01):
            task = asyncio.create_task(backend.answer(ask("slow alpha?"), Listener()))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.wait([task])
            reply = await backend.answer(ask("bravo?"), Listener())
            assert "bravo" in reply.answer.text
            assert "alpha" not in reply.answer.text
        await backend.stop()

    asyncio.run(scene())


def test_it_answers_as_many_at_once_as_it_says(build: Build) -> None:
    async def scene() -> tuple[float, float]:
        backend = build()
        assert backend.concurrency == 4
        await backend.start()
        words = ("alpha", "bravo", "charlie", "delta")
        begun = time.monotonic()
        await asyncio.gather(*(answered(backend, word) for word in words))
        at_once = time.monotonic() - begun
        for word in words:
            await answered(backend, word)
        one_by_one = time.monotonic() - begun - at_once
        await backend.stop()
        return at_once, one_by_one

    at_once, one_by_one = asyncio.run(scene())
    assert at_once < max(one_by_one, 1.0)  # `command` takes 0.3 s for each


def test_stopping_ends_what_is_in_flight(build: Build) -> None:
    async def scene() -> None:
        backend = build()
        await backend.start()
        task = asyncio.create_task(backend.answer(ask("slow alpha?"), Listener()))
        await asyncio.sleep(0)
        await backend.stop()
        done, _ = await asyncio.wait([task], timeout=30)
        assert done
        assert task.exception() is None or isinstance(task.exception(), Broken)

    asyncio.run(scene())


@pytest.mark.long
def test_ten_lives_leave_no_child_and_no_descriptor(build: Build) -> None:
    async def life() -> None:
        backend = build()
        await backend.start()
        await backend.stop()

    async def scene() -> None:
        await life()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            await life()
        # The mocked service is in this process too, and lets go a moment later.
        until(lambda: len(os.listdir("/proc/self/fd")) <= before, what="all to be closed")

    with leaving_no_process():
        asyncio.run(scene())


@pytest.mark.parametrize("name", SERVED, indirect=True)
def test_a_service_that_refuses_everybody_is_unavailable_and_the_instance_stays_whole(
    build: Build,
) -> None:
    async def scene() -> None:
        backend = build()
        await backend.start()
        with pytest.raises(Unavailable) as refusal:
            await backend.answer(ask("refused alpha?"), Listener())
        assert refusal.value.kind in get_args(Refusal)
        assert refusal.value.what
        wait = refusal.value.resume_after_ms
        assert wait is None or wait > 0
        await backend.probe()
        await answered(backend, "alpha")
        await backend.stop()

    asyncio.run(scene())


def test_a_question_of_a_megabyte_is_taken(build: Build) -> None:
    async def scene() -> None:
        backend = build()
        await backend.start()
        reply = await backend.answer(ask("alpha? " * 150_000), Listener())
        assert "alpha" in reply.answer.text
        await backend.stop()

    asyncio.run(scene())


def test_an_unknown_option_is_refused_with_shard_key_and_allowed_keys(
    name: str, tmp_path: Path
) -> None:
    options = {**OPTIONS[name], "colour": "red"}
    with pytest.raises(ConfigError) as refusal:
        open_backend(name, Setting(shard="main", root=tmp_path, context=[], options=options))
    assert "shards.main.options" in refusal.value.what
    assert "colour" in refusal.value.what
    assert "Allowed keys: " in refusal.value.mend


def test_an_unknown_backend_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        open_backend("oracle", Setting(shard="main", root=tmp_path, context=[]))
    assert "oracle" in refusal.value.what
    for known in OPTIONS:
        assert known in refusal.value.mend
