"""The embedded backend on real files that change, vanish, and are more than it can take."""

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from autopoll.backends import open_backend
from autopoll.backends.context import reader
from autopoll.backends.contract import Backend, Broken, Permanent, Setting
from autopoll.message import Answer
from autopoll.request import Request

Ask = Callable[..., Awaitable[Answer]]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "harbour.md").write_text("# Harbour\n\nThe lighthouse is red.\n\nIts lamp turns.\n")
    (docs / "mill.py").write_text("def grind(corn):\n    return corn.flour()\n")
    return docs


def run(docs: Path, scene: Callable[[Ask], Awaitable[None]]) -> None:
    async def main() -> None:
        setting = Setting(shard="main", root=docs.parent, context=[docs])
        backend: Backend = open_backend("extract", setting)

        async def ask(question: str, context_file: str | None = None) -> Answer:
            request = Request(
                delivery=1, fence=1, attempt=1, timeout_ms=5000, conversation="c",
                question=question, context_file=context_file,
            )  # fmt: skip
            return (await backend.answer(request, print)).answer

        await backend.start()
        await scene(ask)
        await backend.stop()

    asyncio.run(main())


async def until(ask: Ask, question: str, expected: Callable[[Answer], bool]) -> None:
    """Ask again and again until the answer is as expected."""
    deadline = time.monotonic() + 10
    while not expected(answer := await ask(question)):
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.02)


def test_the_answer_is_the_passage_as_it_stands_with_its_citation(docs: Path) -> None:
    async def scene(ask: Ask) -> None:
        answer = await ask("What colour is the lighthouse?")
        assert answer.sources == ["docs/harbour.md:1-3"]
        assert answer.text == ("[docs/harbour.md:1-3] Harbour\n# Harbour\n\nThe lighthouse is red.")

    run(docs, scene)


def test_code_is_found_too(docs: Path) -> None:
    async def scene(ask: Ask) -> None:
        assert (await ask("How is corn ground to flour?")).sources == ["docs/mill.py:1-2"]

    run(docs, scene)


def test_nothing_found_is_said_and_is_no_error(docs: Path) -> None:
    async def scene(ask: Ask) -> None:
        nothing = await ask("Who won the football cup?")
        assert nothing.text.startswith("Nothing found")
        assert (nothing.sources, nothing.error) == ([], False)
        assert (await ask("?!")).text.startswith("Nothing found")

    run(docs, scene)


def test_files_changed_added_and_removed_are_noticed(docs: Path) -> None:
    async def scene(ask: Ask) -> None:
        (docs / "harbour.md").write_text("# Harbour\n\nThe lighthouse is blue.\n")
        (docs / "new").mkdir()
        (docs / "new" / "bridge.txt").write_text("The drawbridge opens at noon.")
        (docs / "mill.py").unlink()
        await until(ask, "What colour is the lighthouse?", lambda a: "blue" in a.text)
        await until(ask, "When does the drawbridge open?", lambda a: "noon" in a.text)
        await until(ask, "corn flour", lambda a: not a.sources)

    run(docs, scene)


@pytest.mark.parametrize("replaced", [True, False])
def test_a_change_that_keeps_size_and_time_is_noticed(docs: Path, replaced: bool) -> None:
    async def scene(ask: Ask) -> None:
        old = docs / "harbour.md"
        facts = old.stat()
        new = docs / "harbour.new" if replaced else old
        new.write_text(old.read_text().replace("red", "tan"))
        os.utime(new, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        new.replace(old)
        await until(ask, "What colour is the lighthouse?", lambda a: "tan" in a.text)

    run(docs, scene)


def test_unchanged_files_are_not_read_again(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LOOK_AGAIN_S", 0.0)
    read: list[str] = []
    original = reader.Context.read
    monkeypatch.setattr(
        reader.Context, "read", lambda self, name: read.append(name) or original(self, name)
    )

    async def scene(ask: Ask) -> None:
        assert len(read) == 2
        for _ in range(5):
            await ask("lighthouse")
        assert len(read) == 2

    run(docs, scene)


def test_a_named_file_is_searched_alone_and_as_it_is_now(docs: Path) -> None:
    async def scene(ask: Ask) -> None:
        (docs / "other.md").write_text("The lighthouse of the other file is green.")
        answer = await ask("What colour is the lighthouse?", "other.md")
        assert answer.sources == ["docs/other.md:1-1"]
        (docs / "other.md").write_text("The lighthouse of the other file is pink now.")
        assert "pink" in (await ask("What colour is the lighthouse?", "docs/other.md")).text
        nothing = await ask("Who grinds corn?", "other.md")
        assert nothing.text == "Nothing found in docs/other.md that answers this."

    run(docs, scene)


def test_a_named_file_that_may_not_be_read_is_a_permanent_error(docs: Path) -> None:
    async def scene(ask: Ask) -> None:
        for name in ("../../etc/passwd", "/etc/passwd", "missing.md"):
            with pytest.raises(Permanent, match=r"not among"):
                await ask("root?", name)

    run(docs, scene)


def test_files_that_are_no_text_or_too_large_are_passed_over(docs: Path) -> None:
    (docs / "image.png").write_bytes(b"\x89PNG\0lighthouse")
    with (docs / "large.md").open("wb") as file:
        file.truncate(20 * 1024 * 1024)
    os.mkfifo(docs / "pipe.md")

    async def scene(ask: Ask) -> None:
        assert (await ask("lighthouse")).sources == ["docs/harbour.md:1-3"]

    run(docs, scene)


@pytest.mark.long
def test_the_loop_is_not_held_up_while_ten_megabytes_are_indexed(docs: Path) -> None:
    paragraph = "The quick brown fox jumps over the lazy dog near the river bank. " * 8
    (docs / "book.md").write_text("\n\n".join([paragraph] * 20_000))

    async def main() -> tuple[float, float]:
        setting = Setting(shard="main", root=docs.parent, context=[docs])
        backend = open_backend("extract", setting)
        starting = asyncio.create_task(backend.start())
        longest, before = 0.0, time.monotonic()
        begun = before
        while not starting.done():
            await asyncio.sleep(0.001)
            now = time.monotonic()
            longest, before = max(longest, now - before), now
        await starting
        await backend.stop()
        return longest, before - begun

    longest, whole = asyncio.run(main())
    assert longest < whole / 2


def test_stopping_does_not_wait_for_a_long_look_and_cuts_it_short(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        (docs / f"{number}.md").write_text("some words of no meaning")
    in_time: list[bool] = []
    reading, stopped = threading.Event(), threading.Event()
    original = reader.Context.read

    def slowly(self: reader.Context, name: str) -> object:
        reading.set()
        in_time.append(stopped.wait(30))
        return original(self, name)

    monkeypatch.setattr(reader.Context, "read", slowly)

    async def main() -> None:
        setting = Setting(shard="main", root=docs.parent, context=[docs])
        backend = open_backend("extract", setting)
        starting = asyncio.create_task(backend.start())
        assert await asyncio.to_thread(reading.wait, 30)
        await backend.stop()
        stopped.set()
        await asyncio.wait([starting])

    asyncio.run(main())
    assert in_time == [True], "the file that was being read is the last"


def test_a_context_that_is_too_large_is_refused_at_the_start_with_the_limit(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LARGEST", 60)

    async def nothing(ask: Ask) -> None:
        raise AssertionError("it started")

    with pytest.raises(Broken, match="shard main is over"):
        run(docs, nothing)
