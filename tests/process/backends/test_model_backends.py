"""The backends `anthropic` and `openai`: the real libraries against a mocked service."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from listener import Listener
from mock_api import MockApi
from place import until

from autopoll.backends import open_backend
from autopoll.backends.contract import (
    Broken,
    Permanent,
    Retriable,
    Setting,
    Unanswered,
    Unavailable,
)
from autopoll.backends.http.http_backend import Remote
from autopoll.errors import ConfigError
from autopoll.request import Reply, Request

PATHS = {"anthropic": "", "openai": "/v1"}
KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
KEY = "mock-key-0123456789"
Scene = Callable[[Remote], Awaitable[None]]


@pytest.fixture(params=sorted(PATHS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockApi]:
    for variable in os.environ:
        if variable.startswith(("ANTHROPIC_", "OPENAI_")):
            monkeypatch.delenv(variable)
    with MockApi() as api:
        yield api


class World:
    """A shard with two files, and a service."""

    def __init__(self, name: str, api: MockApi, root: Path) -> None:
        self.name, self.api, self.root = name, api, root
        self.docs = root / "docs"
        self.docs.mkdir()
        (self.docs / "lighthouse.md").write_text("# Notes\n\nThe lighthouse is red.\n")
        (self.docs / "bridge.md").write_text("The bridge is green.\n")
        self.options: dict[str, Any] = {
            "model": "mock",
            "base_url": api.url + PATHS[name],
            "stall_timeout": "20s",
        }

    def open(self, **options: Any) -> Remote:
        chosen = {**self.options, **options}
        given = {name: value for name, value in chosen.items() if value is not None}
        setting = Setting(shard="main", root=self.root, context=[self.docs], options=given)
        backend = open_backend(self.name, setting)
        assert isinstance(backend, Remote)
        return backend

    def run(self, scene: Scene, **options: Any) -> None:
        async def whole() -> None:
            backend = self.open(**options)
            await backend.start()
            try:
                await scene(backend)
            finally:
                await backend.stop()

        asyncio.run(whole())

    def failure(self, question: str, **options: Any) -> Unanswered:
        """Ask, expect to get no answer, and see that the next question is answered all the same."""
        failures: list[Unanswered] = []

        async def scene(backend: Remote) -> None:
            with pytest.raises(Unanswered) as raised:
                await ask(backend, question)
            failures.append(raised.value)
            self.api.mood = ""
            assert "You asked: Afterwards?" in (await ask(backend, "Afterwards?")).answer.text

        self.run(scene, **options)
        return failures[0]


@pytest.fixture
def world(name: str, api: MockApi, tmp_path: Path) -> World:
    return World(name, api, tmp_path)


async def ask(backend: Remote, question: str, report: Listener | None = None, **more: Any) -> Reply:
    request = Request(
        delivery=1, fence=1, attempt=1, timeout_ms=9000, conversation="c", question=question, **more
    )
    return await backend.answer(request, report or Listener())


# --- answers


@pytest.mark.long
def test_the_answer_comes_in_pieces_with_sources_and_what_it_cost(world: World) -> None:
    async def scene(backend: Remote) -> None:
        told = Listener()
        reply = await ask(backend, "Where is the lighthouse?", told)
        citation = "docs/lighthouse.md:3-3"
        assert reply.answer.text == f"You asked: Where is the lighthouse? [{citation}]"
        assert reply.answer.sources == [citation]
        assert len(told.pieces) > 1
        assert "".join(told.pieces) == reply.answer.text
        assert reply.usage is not None
        assert reply.usage.input_tokens > 10 and reply.usage.output_tokens > 5
        assert reply.usage.cost_usd is None

    world.run(scene)


def test_from_the_second_question_on_the_files_are_read_from_the_cache(world: World) -> None:
    async def scene(backend: Remote) -> None:
        first = (await ask(backend, "One?")).usage
        second = (await ask(backend, "Two?")).usage
        assert first and second
        assert first.cached_tokens == 0
        assert second.cached_tokens > 100 > second.input_tokens

    world.run(scene)


def test_a_citation_that_does_not_hold_is_dropped_and_counted(world: World) -> None:
    async def scene(backend: Remote) -> None:
        reply = await ask(backend, "See [docs/gone.md:1-2] and [docs/bridge.md:1-1]")
        assert reply.answer.sources == ["docs/bridge.md:1-1"]
        assert backend.dropped == 1

    world.run(scene)


def test_one_kept_connection_answers_one_question_after_the_other(world: World) -> None:
    async def scene(backend: Remote) -> None:
        for number in range(20):
            await ask(backend, f"Question {number}?")

    world.run(scene)
    assert len(world.api.asked) == 20
    assert world.api.connections == 1


def test_a_connection_that_the_service_has_closed_meanwhile_costs_no_question(
    world: World,
) -> None:
    async def scene(backend: Remote) -> None:
        for number in range(5):
            await ask(backend, f"Question {number}?")
            world.api.hang_up()
            until(lambda: not world.api.open, what="the connection to be closed")
        assert world.api.connections == 5

    world.run(scene)


def test_thoughts_and_keep_alives_are_signs_of_life_and_no_part_of_the_answer(
    world: World,
) -> None:
    async def scene(backend: Remote) -> None:
        told = Listener()
        reply = await ask(backend, "Hm? !thinking !ping=3 !pause=10", told)
        assert "secret" not in reply.answer.text
        assert "secret" not in "".join(told.pieces)
        assert told.notes

    world.run(scene)


def test_a_slow_stream_is_no_stalled_one(world: World) -> None:
    async def scene(backend: Remote) -> None:
        begun = time.monotonic()
        reply = await ask(backend, "Take your time, as many words as you like !pause=200")
        assert "as many words" in reply.answer.text
        assert time.monotonic() - begun > 0.8  # longer than the whole of `stall_timeout`

    world.run(scene, stall_timeout="800ms")


def test_an_answer_that_is_cut_off_says_so(world: World) -> None:
    async def scene(backend: Remote) -> None:
        reply = await ask(backend, "How many? !max")
        assert reply.answer.text.endswith("[cut off: 77 tokens allowed]")

    world.run(scene, max_tokens=77)


def test_options_reach_the_service(world: World) -> None:
    async def scene(backend: Remote) -> None:
        await ask(backend, "How?")

    world.run(scene, max_tokens=55, instructions="Answer in rhymes.", body={"temperature": 0.25})
    body = world.api.asked[-1]["body"]
    assert body["model"] == "mock"
    assert body["max_tokens"] == 55
    assert body["temperature"] == 0.25
    assert body["stream"] is True
    assert "Answer in rhymes." in str(body)


def test_a_named_file_is_pointed_at_and_one_outside_is_refused_unasked(world: World) -> None:
    async def scene(backend: Remote) -> None:
        await ask(backend, "Which colour?", context_file="docs/bridge.md")
        assert "about the file docs/bridge.md" in str(world.api.asked[-1]["body"]["messages"])
        with pytest.raises(Permanent, match="not among this shard's context files"):
            await ask(backend, "Which?", context_file="/etc/passwd")
        assert len(world.api.asked) == 1

    world.run(scene)


def test_a_context_over_the_budget_sends_passages_and_is_still_cited(world: World) -> None:
    (world.docs / "large.md").write_text("\n\n".join(f"Nothing {n} here." for n in range(900)))

    async def scene(backend: Remote) -> None:
        reply = await ask(backend, "What colour is the lighthouse?")
        assert reply.answer.sources == ["docs/lighthouse.md:3-3"]
        assert len(str(world.api.asked[-1]["body"])) < 6000
        size = await backend.measure()
        assert not size.whole and not size.exact
        assert size.tokens > 3000

    world.run(scene, context_tokens=1000)


def test_the_context_is_measured_where_that_costs_nothing(world: World) -> None:
    async def scene(backend: Remote) -> None:
        size = await backend.measure()
        assert size.exact is (world.name == "anthropic")
        assert 100 < size.tokens < 1000
        assert size.window == (200_000 if world.name == "anthropic" else 128_000)
        assert (await backend.measure()).share == size.tokens / size.window
        assert not world.api.asked  # no question was paid for

    world.run(scene)


FIRST = """
import asyncio, sys
from pathlib import Path
from listener import Listener
from autopoll.backends import open_backend
from autopoll.backends.contract import Setting
from autopoll.request import Request

async def scene(name, url):
    options = {"model": "mock", "base_url": url}
    backend = open_backend(name, Setting(shard="main", root=Path(), context=[], options=options))
    assert name not in sys.modules  # not before it is wanted
    await backend.start()
    before = set(sys.modules)
    asked = Request(
        delivery=1, fence=1, attempt=1, timeout_ms=9000, conversation="c", question="First?"
    )
    await backend.answer(asked, Listener())
    print("new:", *sorted(set(sys.modules) - before))
    await backend.stop()

asyncio.run(scene(*sys.argv[1:]))
"""


@pytest.mark.long
def test_the_library_is_loaded_as_a_whole_at_the_start_and_not_at_the_first_question(
    world: World,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST, world.name, world.options["base_url"]],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["new:"], done.stdout + done.stderr


# --- failures


@pytest.mark.parametrize(
    ("mood", "kind", "cause", "words"),
    [
        ("429=7", Unavailable, "rate-limit", "rate limit"),
        ("reset-in=9", Unavailable, "rate-limit", "rate limit"),
        ("credit", Unavailable, "quota", "quota"),
        ("402", Unavailable, "quota", "quota"),
        ("529", Unavailable, "overloaded", "overloaded"),
        ("503", Unavailable, "overloaded", "overloaded"),
        ("401", Unavailable, "credentials", "does not accept the key"),
        ("403", Unavailable, "credentials", "does not accept the key"),
        ("500", Retriable, None, "failed with 500"),
        ("502", Retriable, None, "failed with 502"),
        ("toolong", Permanent, None, "too long for the model"),
        ("413", Permanent, None, "too long for the model"),
        ("404", Permanent, None, "no such model"),
        ("400", Permanent, None, "refuses the request"),
        ("refusal", Permanent, None, "refused to answer"),
        ("empty", Retriable, None, "empty answer"),
        ("empty !max", Permanent, None, "max_tokens"),
        ("hang", Retriable, None, "silent for 0.6 s, before the answer began"),
        ("stall", Retriable, None, "silent for 0.6 s, after"),
        ("drop", Retriable, None, "connection broke"),
        ("cut", Retriable, None, "ended in the middle"),
        ("reset", Retriable, None, "connection broke"),
        ("garbage", Retriable, None, "cannot be read"),
        ("html", Retriable, None, "web page in place of an answer: A proxy says hello"),
        ("error", (Unavailable, Retriable), None, "mock error"),
        ("error=rate_limit_error", Unavailable, "rate-limit", "rate limit"),
        ("error=invalid_request_error", Permanent, None, "refuses the request"),
    ],
)
def test_every_failure_is_told_in_its_class_and_the_next_question_is_answered(
    world: World, mood: str, kind: type[Unanswered], cause: str | None, words: str
) -> None:
    patience = "600ms" if mood in ("hang", "stall") else "20s"
    error = world.failure(f"Will it work this time, I wonder? !{mood}", stall_timeout=patience)
    assert isinstance(error, kind)
    assert words in str(error)
    if cause is not None:
        assert isinstance(error, Unavailable) and error.kind == cause


def test_a_rate_limit_says_when_it_ends(world: World) -> None:
    told = world.failure("How? !429=7")
    assert isinstance(told, Unavailable) and told.resume_after_ms == 7000
    own = world.failure("How? !reset-in=9")
    assert isinstance(own, Unavailable) and own.resume_after_ms is not None
    assert 5000 < own.resume_after_ms <= 9000


def test_what_a_failed_try_has_cost_is_told_with_it(world: World) -> None:
    error = world.failure("How? !refusal")
    assert error.usage is not None and error.usage.input_tokens > 0


def test_an_endless_answer_is_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autopoll.backends.http.stream.LONGEST", 500)
    assert "more than 500 characters" in str(world.failure("On and on and on? !endless"))
    until(lambda: not world.api.open, what="the connection to be let go")


@pytest.mark.parametrize("mood", ["drop", "stall", "hang", "500", "garbage", "429"])
def test_a_client_that_saw_an_error_is_not_used_again(world: World, mood: str) -> None:
    async def scene(backend: Remote) -> None:
        clients = []
        for question in ("One?", f"Is this the second one? !{mood}", "Three?", "Four?"):
            clients.append(backend._open_shared())
            clients[-1].users -= 1
            try:
                await ask(backend, question)
            except Unanswered:
                assert "second" in question
        assert clients[0] is clients[1] is not clients[2] is clients[3]
        until(lambda: len(world.api.open) == 1, what="the old connection to be closed")

    world.run(scene, stall_timeout="600ms")


def test_an_error_does_not_disturb_the_others_that_are_under_way(world: World) -> None:
    async def scene(backend: Remote) -> None:
        others = [
            asyncio.create_task(ask(backend, f"slow number {number}?")) for number in range(3)
        ]
        await asyncio.sleep(0)
        with pytest.raises(Retriable):
            await ask(backend, "Will this one break? !500")
        for number, reply in enumerate(await asyncio.gather(*others)):
            assert f"slow number {number}?" in reply.answer.text

    world.run(scene)


def test_a_cancelled_question_lets_go_and_the_next_answer_is_its_own(world: World) -> None:
    async def scene(backend: Remote) -> None:
        for moment in range(6):
            told = Listener()
            task = asyncio.create_task(ask(backend, "Alpha? !endless !pause=5", told))
            while len(told.pieces) < moment:
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            reply = await ask(backend, "Bravo?")
            assert reply.answer.text.startswith("You asked: Bravo?")
        await backend.probe()

    world.run(scene)
    until(lambda: not world.api.open, what="all connections to be closed")


def test_stopping_ends_a_question_that_hangs_at_once(world: World) -> None:
    async def scene(backend: Remote) -> None:
        for mood in ("hang", "stall"):
            task = asyncio.create_task(ask(backend, f"Will you ever answer this? !{mood}"))
            while not world.api.asked:
                await asyncio.sleep(0.001)
            begun = time.monotonic()
            await backend.stop()
            with pytest.raises(Broken):
                await task
            assert time.monotonic() - begun < 5
            world.api.requests.clear()
            await backend.start()

    world.run(scene, stall_timeout="60s")


def test_a_service_that_cannot_be_reached_pauses_the_shard(world: World) -> None:
    async def scene(backend: Remote) -> None:
        await ask(backend, "How?")
        world.api.__exit__()
        until(lambda: not world.api.open)
        with pytest.raises(Unavailable, match="cannot be reached") as error:
            await ask(backend, "How?")
        assert error.value.kind == "overloaded"
        assert error.value.resume_after_ms

    world.run(scene)
    with pytest.raises(Unavailable, match="cannot be reached"):
        world.run(scene)


# --- starting, keys


def started(world: World, **options: Any) -> Exception | None:
    """Return what starting raises."""

    async def nothing(backend: Remote) -> None:
        await backend.probe()

    try:
        world.run(nothing, **options)
    except Unanswered as error:
        return error
    return None


def test_a_wrong_key_is_found_at_the_start_and_never_shown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.api.key = "the-right-one"
    monkeypatch.setenv(KEYS[world.name], KEY)
    error = started(world)
    assert isinstance(error, Unavailable) and error.kind == "credentials"
    assert KEY not in str(error)
    assert not world.api.asked
    monkeypatch.setenv(KEYS[world.name], "the-right-one")
    assert started(world) is None


def test_a_missing_key_is_found_at_the_start_without_a_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = started(world, base_url=None)
    assert isinstance(error, Unavailable) and error.kind == "credentials"
    assert KEYS[world.name] in str(error)
    assert not world.api.requests


def test_the_key_comes_from_the_variable_or_the_file_that_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.api.key = KEY
    monkeypatch.setenv("MOCK_KEY", KEY)
    assert started(world, key_env="MOCK_KEY") is None
    (world.root / "key").write_text(f"{KEY}\n")
    (world.root / "key").chmod(0o600)
    assert started(world, key_file="key") is None
    (world.root / "key").chmod(0o644)
    with pytest.raises(ConfigError, match="open to others"):
        world.open(key_file="key")


def test_a_redirect_is_not_followed_for_the_key_would_go_along(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEYS[world.name], KEY)
    error = world.failure("Where to? !307")
    assert isinstance(error, Permanent) and "redirects" in str(error)
    assert not [each for each in world.api.requests if each["path"] == "/elsewhere"]


def test_a_key_that_is_replaced_in_its_file_is_used_after_the_first_refusal(world: World) -> None:
    path = world.root / "key"
    path.write_text("old-key")
    path.chmod(0o600)
    world.api.key = "old-key"

    async def scene(backend: Remote) -> None:
        await ask(backend, "One?")
        world.api.key = KEY
        path.write_text(KEY)
        with pytest.raises(Unavailable):
            await ask(backend, "Two?")
        await ask(backend, "Three?")
        path.chmod(0o640)
        world.api.key = "none"
        for _ in range(2):
            with pytest.raises(Unavailable) as error:
                await ask(backend, "Four?")
        assert error.value.kind == "credentials"
        assert "chmod 600" in str(error.value)

    world.run(scene, key_file="key")


@pytest.mark.parametrize("mood", ["429", "500"])
def test_a_start_is_not_held_up_by_what_will_pass(world: World, mood: str) -> None:
    world.api.mood = mood
    assert started(world) is None


@pytest.mark.parametrize("mood", ["403", "404"])
def test_a_service_that_lists_no_models_can_be_used_all_the_same(world: World, mood: str) -> None:
    world.api.mood = mood
    assert started(world) is None


def test_a_model_that_the_vendor_does_not_know_is_said_at_the_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{world.name.upper()}_BASE_URL", "")
    # The vendor's own address is not at hand, so the mocked one is made to be it.
    monkeypatch.setattr(f"{world.name}.Async{_CLASS[world.name]}.__init__", _to(world))
    monkeypatch.setenv(KEYS[world.name], KEY)
    error = started(world, base_url=None, model="missing-1")
    assert isinstance(error, Broken)
    assert "no " in str(error) and "model" in str(error)


_CLASS = {"anthropic": "Anthropic", "openai": "OpenAI"}


def _to(world: World) -> Any:
    import importlib

    library = importlib.import_module(world.name)
    original = getattr(library, f"Async{_CLASS[world.name]}").__init__

    def made(self: Any, **more: Any) -> None:
        original(self, **{**more, "base_url": world.options["base_url"]})

    return made


@pytest.mark.parametrize(
    "options",
    [
        {"model": None},
        {"model": ""},
        {"max_tokens": 0},
        {"max_tokens": "many"},
        {"context_tokens": 10},
        {"concurrency": 0},
        {"stall_timeout": "soon"},
        {"base_url": "localhost:8000"},
        {"base_url": "file:///etc/passwd"},
        {"key_file": "missing"},
        {"key": "sk-in-the-config"},
        {"window": 5000, "context_tokens": 5000},
        {"body": "x"},
    ],
)
def test_options_that_cannot_be_are_refused_naming_them(
    world: World, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as error:
        world.open(**options)
    assert "shards.main.options" in error.value.what
    assert "sk-in-the-config" not in str(error.value)


# --- the long run


@pytest.mark.long
def test_hundreds_of_questions_good_and_bad_leave_neither_memory_nor_descriptors(
    world: World,
) -> None:
    moods = ["", "", "", "!500", "!drop", "!429", "!empty", "!error"]

    async def scene(backend: Remote) -> None:
        async def some(number: int) -> None:
            for at in range(number):
                try:
                    await ask(backend, f"Is this number {at}? {moods[at % len(moods)]}")
                except (Retriable, Unavailable):
                    continue

        await some(40)
        until(lambda: len(world.api.open) <= 1)
        world.api.requests.clear()
        before, fds = psutil.Process().memory_info().rss, len(os.listdir("/proc/self/fd"))
        await some(120)
        until(lambda: len(world.api.open) <= 1)
        world.api.requests.clear()
        assert len(os.listdir("/proc/self/fd")) <= fds + 2
        assert psutil.Process().memory_info().rss - before < 24 * 1024 * 1024

    world.run(scene)


def test_as_many_questions_as_configured_are_under_way_at_once(world: World) -> None:
    async def scene(backend: Remote) -> None:
        assert backend.concurrency == 12
        replies = await asyncio.gather(
            *(ask(backend, f"Number {number}? !delay=200") for number in range(12))
        )
        numbers = [re.findall(r"Number (\d+)", reply.answer.text)[0] for reply in replies]
        assert numbers == [str(number) for number in range(12)]
        assert len(world.api.open) == 12

    world.run(scene, concurrency=12, stall_timeout="10s")
