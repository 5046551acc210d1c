"""The processes of `claude-code` that wait for a question, and those that are kept after one."""

import asyncio
import json
import os
import signal
import time

import psutil
import pytest
from claude_scene import ask, failure, make, play, teller, told, until, waiting
from listener import Listener

from autopoll.backends.claude_code.claude_backend import ClaudeCode
from autopoll.backends.contract import Retriable

# --- processes that wait


def test_a_process_that_dies_while_it_waits_is_replaced_before_anybody_asks(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        first = await until(lambda: len(waiting(backend)) == 2 and waiting(backend))
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: len(waiting(backend)) == 2 and not set(first) & set(waiting(backend)))
        assert "after 0 others" in await told(backend, "and now?")

    play(make(home, cli), scene)


def test_a_process_that_was_stopped_while_it_waited_is_not_asked(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        first = await until(lambda: len(waiting(backend)) == 2 and waiting(backend))
        for pid in first:
            os.kill(pid, signal.SIGSTOP)
            await until(lambda pid=pid: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        begun = time.monotonic()
        assert json.loads(await told(backend, "!self"))["pid"] not in first
        assert time.monotonic() - begun < 10

    play(make(home, cli), scene)


def test_a_process_that_is_too_old_is_renewed_while_nobody_asks(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        first = await until(lambda: len(waiting(backend)) == 2 and waiting(backend))

        async def renewed() -> bool:
            await backend.probe()
            now = waiting(backend)
            return len(now) == 2 and not set(first) & set(now)

        end = time.monotonic() + 20
        while not await renewed():
            assert time.monotonic() < end
            await asyncio.sleep(0.01)

    play(make(home, cli, max_age="1s"), scene)


def test_a_change_of_the_files_is_known_to_the_next_answer(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        assert not (await backend.answer(ask("the orchid?"), Listener())).answer.sources
        (home / "docs" / "more.md").write_text("The orchid is white.\n")
        end = time.monotonic() + 20
        while True:  # files are looked at once a second at most
            reply = await backend.answer(ask("the orchid?"), Listener())
            if reply.answer.sources:
                break
            assert time.monotonic() < end
        assert reply.answer.sources == ["docs/more.md:1-1"]

    play(make(home, cli), scene)


def test_waiting_processes_are_renewed_when_the_files_change(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        first = await until(lambda: len(waiting(backend)) == 2 and waiting(backend))
        (home / "docs" / "more.md").write_text("The orchid is white.\n")
        end = time.monotonic() + 20
        while set(first) & set(waiting(backend)) or len(waiting(backend)) < 2:
            assert time.monotonic() < end
            await backend.probe()
            await asyncio.sleep(0.01)
        assert len(list((home / "var" / "run" / "claude").glob("*/*/*"))) == 1

    play(make(home, cli), scene)


# --- kept


def test_a_kept_process_answers_on_and_knows_what_was_asked_before(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        first = await teller(backend)
        assert "after 1 others" in await told(backend, "before?")
        assert await teller(backend) == first

    play(make(home, cli, session="kept"), scene)


@pytest.mark.parametrize(
    "options", [{"max_questions": 1}, {"max_age": "1s"}, {"max_memory": "1MB"}], ids=str
)
def test_a_kept_process_is_renewed_by_count_by_age_and_by_memory(home, cli, options) -> None:
    async def scene(backend: ClaudeCode) -> None:
        first, end = await teller(backend), time.monotonic() + 20
        while await teller(backend) == first:
            assert "max_age" in options
            assert time.monotonic() < end

    play(make(home, cli, session="kept", **options), scene)


@pytest.mark.parametrize("bad", ["!error=server_error", "!empty", "!retry=unknown:0:5000"])
def test_a_kept_process_that_saw_an_error_is_not_asked_again(home, cli, bad: str) -> None:
    async def scene(backend: ClaudeCode) -> None:
        first = await teller(backend)
        assert isinstance(await failure(backend, bad), Retriable)
        assert await teller(backend) != first

    play(make(home, cli, session="kept"), scene)


def test_a_kept_process_whose_question_was_cancelled_is_not_asked_again(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        first = await teller(backend)
        asking = asyncio.create_task(told(backend, "slow and late"))
        assert backend._pool is not None
        await until(lambda: backend._pool._out)
        asking.cancel()
        await asyncio.wait([asking])
        text = await told(backend, "and now?")
        assert "late" not in text
        assert await teller(backend) != first

    play(make(home, cli, session="kept"), scene)
