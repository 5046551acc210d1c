"""The backend `claude-code` with a CLI that behaves badly, behind the real SDK.

What stands in for the CLI is tests/data/fake_claude.py; test_claude_real.py runs the real one.
"""

import asyncio
import json
import re

import psutil
import pytest
from claude_scene import ask, children, failure, make, play, told, until, waiting
from listener import Listener

from autopoll.backends.claude_code.claude_backend import ClaudeCode
from autopoll.backends.contract import Permanent, Retriable, Unavailable
from autopoll.request import Usage

# --- an answer


def test_an_answer_comes_with_its_sources_its_cost_and_piece_by_piece(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        listener = Listener()
        reply = await backend.answer(ask("What about the tulip?"), listener)
        assert reply.answer.text == "You asked: What about the tulip? [docs/notes.md:3-3]"
        assert reply.answer.sources == ["docs/notes.md:3-3"]
        assert reply.usage == Usage(
            input_tokens=42, output_tokens=5, cached_tokens=400, cost_usd=0.25
        )
        assert "".join(listener.pieces) == reply.answer.text
        assert len(listener.pieces) > 1

    play(make(home, cli), scene)


def test_each_question_has_a_process_of_its_own_that_knows_of_no_other(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        pids = set()
        for _ in range(4):
            assert "after 0 others" in await told(backend, "alone?")
            pids.add(json.loads(await told(backend, "!self"))["pid"])
        assert len(pids) == 4

    play(make(home, cli), scene)


def test_a_process_waits_before_there_is_a_question_and_a_new_one_follows_it(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        ready = await until(lambda: len(waiting(backend)) == 2 and waiting(backend))
        assert json.loads(await told(backend, "!self"))["pid"] in ready
        assert await until(lambda: len(waiting(backend)) == 2)

    play(make(home, cli), scene)


def test_there_are_never_more_processes_than_the_pool_may_have(home, cli) -> None:
    most = 0

    async def count(done: asyncio.Event) -> None:
        nonlocal most
        while not done.is_set():
            pool = backend._pool
            most = max(most, len(pool._spares) + len(pool._out) + len(pool._making))
            await asyncio.sleep(0)

    async def scene(backend: ClaudeCode) -> None:
        done = asyncio.Event()
        counting = asyncio.create_task(count(done))
        for _ in range(3):
            await asyncio.gather(*(told(backend, f"slow {n}") for n in range(2)))
        done.set()
        await counting

    backend = make(home, cli, concurrency=2)
    play(backend, scene)
    assert most == 3


# --- failures

GONE = [
    ("!kill", "SIGKILL"),
    ("!exit=0", "exited with code 0"),
    ("!exit=3", "exited with code 3"),
    ("!stop", "was stopped by a signal"),
    ("!silent", "said nothing for 1 s"),
    ("!broken", "sent a message that is not JSON"),
    ("!form", "Missing required field"),
    ("!huge=65", "sent a line of more than 67,108,864 bytes"),
    ("!empty", "empty answer"),
    ("!error=server_error", "it went wrong"),
    ("!error=unknown", "it went wrong"),
    ("!retry=server_error:500:9000", "status 500"),
    ("!retry=unknown:0:9000", "the connection to the service broke"),
]


@pytest.mark.long
@pytest.mark.parametrize(("question", "words"), GONE, ids=[each for each, _ in GONE])
def test_a_cli_that_goes_wrong_costs_one_attempt_and_the_next_is_answered(
    home, cli, question: str, words: str
) -> None:
    async def scene(backend: ClaudeCode) -> None:
        error = await failure(backend, question)
        assert isinstance(error, Retriable), error
        assert words in error.what
        await backend.probe()  # the instance is whole: no restart of anything
        assert "after 0 others" in await told(backend, "and now?")

    play(make(home, cli, stall_timeout="1s"), scene)


def test_a_try_that_breaks_off_tells_what_it_has_cost_so_far(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        for question in ("!kill", "!refusal"):
            error = await failure(backend, question)
            assert error.usage == Usage(input_tokens=42, output_tokens=5, cached_tokens=400)
        assert (await failure(backend, "!retry=overloaded:529:9")).usage is None

    play(make(home, cli), scene)


REFUSED = [
    ("!error=authentication_failed", "credentials", None),
    ("!error=billing_error", "quota", None),
    ("!error=rate_limit", "rate-limit", None),
    ("!error=overloaded", "overloaded", None),
    ("!retry=rate_limit:429:7000", "rate-limit", 7000),
    ("!retry=overloaded:529:550", "overloaded", 550),
]


@pytest.mark.parametrize(("question", "kind", "wait"), REFUSED, ids=[each[0] for each in REFUSED])
def test_what_the_service_refuses_everybody_is_told_at_once_with_its_cause_and_time(
    home, cli, question: str, kind: str, wait: int | None
) -> None:
    async def scene(backend: ClaudeCode) -> None:
        error = await failure(backend, question)
        assert isinstance(error, Unavailable), error
        assert (error.kind, error.resume_after_ms) == (kind, wait)
        assert "after 0 others" in await told(backend, "and now?")

    play(make(home, cli), scene)


def test_a_used_up_plan_is_a_quota_until_the_time_the_cli_tells(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        error = await failure(backend, "!limit=3600")
        assert isinstance(error, Unavailable)
        assert error.kind == "quota"
        assert 3_500_000 < (error.resume_after_ms or 0) <= 3_600_000
        assert "five hour limit" in error.what

    play(make(home, cli), scene)


def test_a_login_is_let_to_renew_itself(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        assert "You asked" in await told(backend, "!retry=authentication_failed:401:10")

    play(make(home, cli), scene)


PERMANENT = ["!refusal", "!error=prompt_too_long", "!error=invalid_request",
             "!error=model_not_found", "!error=error_max_turns"]  # fmt: skip


@pytest.mark.parametrize("question", PERMANENT)
def test_what_would_fail_again_is_not_tried_again(home, cli, question: str) -> None:
    async def scene(backend: ClaudeCode) -> None:
        assert isinstance(await failure(backend, question), Permanent)

    play(make(home, cli), scene)


def test_words_that_are_no_message_do_not_spoil_an_answer(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        assert "You asked" in await told(backend, "!noise")

    play(make(home, cli), scene)


def test_a_cancelled_question_ends_its_process(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        asking = asyncio.create_task(told(backend, "!silent"))
        assert backend._pool is not None
        (session,) = await until(lambda: backend._pool._out)
        await until(lambda: session.asked)
        asking.cancel()
        await asyncio.wait([asking])
        await until(lambda: session.pid not in children(), 5.0)
        assert "after 0 others" in await told(backend, "and now?")

    play(make(home, cli), scene)


def test_what_the_cli_has_started_itself_ends_with_it(home, cli) -> None:
    async def scene(backend: ClaudeCode) -> None:
        numbers = re.findall(r"\d+", await told(backend, "!brood"))
        await until(lambda: not any(psutil.pid_exists(int(pid)) for pid in numbers))

    play(make(home, cli), scene)
