"""What the backend `command` does about programs that die, babble, hang, or never end."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from listener import Listener
from place import leaving_no_process, until

from autopoll.backends.child.command import Command
from autopoll.backends.contract import Broken, Permanent, Retriable, Setting, Unavailable
from autopoll.errors import ConfigError
from autopoll.request import Request, Usage

UNRULY = Path(__file__).parents[2] / "data" / "unruly.py"
USAGE = Usage(input_tokens=350, cached_tokens=9, cost_usd=0.25)  # what unruly.py says
Scene = Callable[[Command], Awaitable[None]]


def command(root: Path, way: str, **options: Any) -> Command:
    words = [sys.executable, str(UNRULY), way]
    return Command(
        Setting(shard="main", root=root, context=[root], options={"command": words, **options})
    )


def ask(question: str = "?", context_file: str | None = None) -> Request:
    return Request(
        delivery=1, fence=1, attempt=1, timeout_ms=5000, conversation="c",
        question=question, context_file=context_file,
    )  # fmt: skip


def program(backend: Command) -> psutil.Process:
    """Return the program that it keeps, and no other child that this process may have."""
    assert backend._child is not None
    return psutil.Process(backend._child.pid)


def with_started(backend: Command, scene: Scene) -> None:
    """Run a scene with a started backend; afterwards no child is left, within five seconds."""

    async def main() -> None:
        await backend.start()
        try:
            await scene(backend)
        finally:
            begun = time.monotonic()
            await backend.stop()
            assert time.monotonic() - begun < 20

    with leaving_no_process():
        asyncio.run(main())


def breaks(root: Path, way: str, **options: Any) -> str:
    """Return how the program broke at its first question."""
    words: list[str] = []

    async def scene(backend: Command) -> None:
        with pytest.raises(Broken) as broken:
            await asyncio.wait_for(backend.answer(ask(), Listener()), 10)
        words.append(broken.value.what)
        with pytest.raises(Broken):
            await backend.probe()

    with_started(command(root, way, **options), scene)
    return words[0]


# --- death


def test_a_death_at_start_is_told_with_code_and_last_words(tmp_path: Path) -> None:
    async def main() -> None:
        backend = command(tmp_path, "die at start", ready=True)
        with pytest.raises(Broken, match=r"exited with code 1; its last words: no model"):
            await backend.start()
        await backend.stop()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("exit 7", "exited with code 7; its last words: out of memory"),
        ("exit 0", "exited with code 0"),
        ("killed", "was killed by signal 9 (SIGKILL)"),
    ],
)
def test_a_death_in_the_middle_of_a_question_is_told_with_its_cause(
    tmp_path: Path, way: str, expected: str
) -> None:
    assert breaks(tmp_path, way).endswith(expected)


def test_a_death_is_noticed_although_a_grandchild_holds_its_output_open(tmp_path: Path) -> None:
    before = running("time.sleep(600)")
    begun = time.monotonic()
    assert "exited with code 5" in breaks(tmp_path, "grandchild")
    assert time.monotonic() - begun < 60  # the grandchild stays for ten minutes
    assert running("time.sleep(600)") <= before


def test_what_a_program_has_detached_from_itself_is_ended_too(tmp_path: Path) -> None:
    before = running("sleep 600")

    async def scene(backend: Command) -> None:
        await backend.answer(ask(), Listener())
        until(lambda: running("sleep 600") - before)  # it may answer before its daemon has begun

    with_started(command(tmp_path, "daemon"), scene)
    assert running("sleep 600") <= before


def running(words: str) -> set[int]:
    """Return the processes whose command line ends so."""
    return {process.pid for process in psutil.process_iter() if line(process).endswith(words)}


def line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_an_answer_given_just_before_the_end_counts(tmp_path: Path) -> None:
    async def scene(backend: Command) -> None:
        reply = await backend.answer(ask(), Listener())
        assert reply.answer.text == "last words"
        with pytest.raises(Broken, match=r"exited with code 0"):
            await until_broken(backend)

    with_started(command(tmp_path, "answers and leaves"), scene)


def test_a_long_answer_still_in_the_pipe_at_its_end_counts_too(tmp_path: Path) -> None:
    async def scene(backend: Command) -> None:
        asked = asyncio.create_task(backend.answer(ask(), Listener()))
        await asyncio.sleep(0)
        child = program(backend)
        deadline = time.monotonic() + 30
        while child.status() != psutil.STATUS_ZOMBIE:  # the loop stands still meanwhile
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert len((await asked).answer.text) == 900_000

    with_started(command(tmp_path, "much and leaves"), scene)


async def until_broken(backend: Command) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        await backend.probe()
        await asyncio.sleep(0.01)


# --- babble


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("garbage", r"sent a line that is not JSON: b'\x00\xff Traceback (most recent call last)'"),
        ("long garbage", "x' and 999,920 bytes more"),
        ("deep", "sent a line that is not JSON: b'{"),
        ("list", "sent JSON of the wrong form (Expected `object`, got `array`): b'[1, 2]'"),
        ("number", "(Expected `str | null`, got `int` - at `$.answer`)"),
        ("no id", 'sent a line without an id: b\'{"answer": "yes"}\''),
        ("empty object", "sent neither answer, error, progress nor piece"),
        ("long line", "sent a line of more than 16,777,216 bytes"),
        ("no newline", "sent a line of more than 16,777,216 bytes"),
        ("closes stdout", "closed its output while it was running"),
    ],
)
def test_a_breach_of_the_protocol_is_named_and_ends_the_program(
    tmp_path: Path, way: str, expected: str
) -> None:
    broken = breaks(tmp_path, way)
    assert expected in broken
    assert len(broken) < 1000


def test_a_program_that_closes_its_input_is_found_out_at_the_next_question(tmp_path: Path) -> None:
    async def scene(backend: Command) -> None:
        first = asyncio.create_task(backend.answer(ask(), Listener()))
        child = program(backend)
        deadline = time.monotonic() + 30
        while os.path.exists(f"/proc/{child.pid}/fd/0") and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        with pytest.raises(Broken, match=r"closed its input while it was running"):
            await backend.answer(ask(), Listener())
        with pytest.raises(Broken):
            await first

    with_started(command(tmp_path, "closes stdin"), scene)


@pytest.mark.long
def test_a_million_progress_lines_neither_stall_the_loop_nor_grow_memory(tmp_path: Path) -> None:
    report = Listener()
    longest = 0.0

    async def scene(backend: Command) -> None:
        nonlocal longest
        process = psutil.Process()
        before = process.memory_info().rss
        asked = asyncio.create_task(backend.answer(ask(), report))
        last = time.monotonic()
        while not asked.done():
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        assert (await asked).answer.text == "done"
        assert process.memory_info().rss - before < 32 * 1024 * 1024

    with_started(command(tmp_path, "tiny lines"), scene)
    assert longest < 2.0
    assert 1 <= len(report.notes) < 200  # ten a second


def test_a_flood_of_errors_is_drained_and_only_its_end_is_kept(tmp_path: Path) -> None:
    async def scene(backend: Command) -> None:
        assert (await backend.answer(ask(), Listener())).answer.text == "done"
        with pytest.raises(Broken) as broken:
            await backend.answer(ask(), Listener())
        assert broken.value.what.endswith("the last line")
        assert 8000 < len(broken.value.what) < 8400

    with_started(command(tmp_path, "stderr flood"), scene)


def test_lines_about_other_questions_are_dropped_and_counted(tmp_path: Path) -> None:
    async def scene(backend: Command) -> None:
        assert (await backend.answer(ask(), Listener())).answer.text == "yours"
        deadline = time.monotonic() + 30
        while backend.strays < 9 and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert backend.strays == 9
        await backend.probe()

    with_started(command(tmp_path, "strays"), scene)


# --- silence


def test_a_program_that_is_silent_is_ended_one_second_after_the_cancellation(
    tmp_path: Path,
) -> None:
    async def scene(backend: Command) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(backend.answer(ask(), Listener()), 0.1)
        with pytest.raises(Broken, match=r"did not let go of a cancelled question within 1 s"):
            await backend.probe()

    begun = time.monotonic()
    with_started(command(tmp_path, "silent"), scene)
    assert 1.1 < time.monotonic() - begun < 30


def test_an_answer_within_a_second_of_the_cancellation_is_dropped_and_life_goes_on(
    tmp_path: Path,
) -> None:
    async def scene(backend: Command) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(backend.answer(ask(), Listener()), 0.05)
        assert (await backend.answer(ask(), Listener())).answer.text == "the second answer"

    with_started(command(tmp_path, "answers late"), scene)


def test_an_answer_later_than_that_is_never_taken_for_the_next(tmp_path: Path) -> None:
    async def scene(backend: Command) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(backend.answer(ask(), Listener()), 0.05)
        with pytest.raises(Broken):
            await backend.answer(ask(), Listener())

    with_started(command(tmp_path, "answers too late"), scene)


def test_a_large_question_to_a_program_that_does_not_read_holds_up_nothing(tmp_path: Path) -> None:
    async def scene(backend: Command) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(backend.answer(ask("x" * 8_000_000), Listener()), 0.1)
        with pytest.raises(Broken, match=r"did not let go"):
            await backend.probe()

    with_started(command(tmp_path, "deaf"), scene)


def test_a_program_that_never_says_that_it_is_ready_is_broken_at_its_limit(tmp_path: Path) -> None:
    async def main() -> None:
        backend = command(tmp_path, "never ready", ready=True, ready_timeout="200ms")
        with pytest.raises(Broken, match=r"did not say that it is ready within 0.2 s"):
            await backend.start()
        await backend.stop()

    with leaving_no_process():
        asyncio.run(main())


def test_start_waits_until_the_program_is_ready(tmp_path: Path) -> None:
    async def scene(backend: Command) -> None:
        await backend.probe()

    begun = time.monotonic()
    with_started(command(tmp_path, "ready late", ready=True), scene)
    assert time.monotonic() - begun > 0.2


def test_a_program_that_ignores_end_of_input_and_term_is_killed_after_three_seconds(
    tmp_path: Path,
) -> None:
    async def scene(backend: Command) -> None:
        await backend.probe()

    begun = time.monotonic()
    with_started(command(tmp_path, "stubborn", ready=True), scene)
    assert 3 <= time.monotonic() - begun < 30


def test_a_stop_that_is_cut_short_kills_at_once(tmp_path: Path) -> None:
    async def scene(backend: Command) -> None:
        child = program(backend)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(backend.stop(), 0.05)
        deadline = time.monotonic() + 30
        while child.is_running():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    with_started(command(tmp_path, "stubborn", ready=True), scene)


# --- what is said


def test_failures_the_program_reports_keep_their_kind_and_their_wait(tmp_path: Path) -> None:
    async def retriable(backend: Command) -> None:
        with pytest.raises(Retriable, match=r"overloaded") as failure:
            await backend.answer(ask(), Listener())
        assert failure.value.retry_after_ms == 1500
        assert failure.value.usage == USAGE
        await backend.probe()

    async def permanent(backend: Command) -> None:
        with pytest.raises(Permanent, match=r"no such model") as failure:
            await backend.answer(ask(), Listener())
        assert failure.value.usage == USAGE

    async def empty(backend: Command) -> None:
        with pytest.raises(Retriable, match=r"empty answer") as failure:
            await backend.answer(ask(), Listener())
        assert failure.value.usage == USAGE

    async def unavailable(backend: Command) -> None:
        with pytest.raises(Unavailable, match=r"quota used up") as failure:
            await backend.answer(ask(), Listener())
        assert (failure.value.kind, failure.value.resume_after_ms) == ("quota", 1500)
        assert failure.value.usage == USAGE
        with pytest.raises(Unavailable, match=r"no such key") as failure:
            await backend.answer(ask(), Listener())
        assert (failure.value.kind, failure.value.resume_after_ms) == ("credentials", None)
        await backend.probe()

    async def for_no_cause(backend: Command) -> None:
        with pytest.raises(Broken, match=r"JSON of the wrong form .*'mood'"):
            await backend.answer(ask(), Listener())

    with_started(command(tmp_path, "unavailable"), unavailable)
    with_started(command(tmp_path, "unavailable for no cause"), for_no_cause)
    with_started(command(tmp_path, "retriable"), retriable)
    with_started(command(tmp_path, "permanent"), permanent)
    with_started(command(tmp_path, "empty answer"), empty)


def test_the_pieces_of_an_answer_are_passed_on_in_their_order(tmp_path: Path) -> None:
    report = Listener()

    async def scene(backend: Command) -> None:
        assert (await backend.answer(ask(), report)).answer.text == "It is so."

    with_started(command(tmp_path, "streams"), scene)
    assert report.pieces == ["It ", "is ", "", "so."]
    assert report.notes == ["done"]
    assert "JSON of the wrong form" in breaks(tmp_path, "a piece of a number")


def test_a_line_may_begin_with_a_mark_and_blanks_and_hold_half_a_character(tmp_path: Path) -> None:
    report = Listener()

    async def scene(backend: Command) -> None:
        answer = (await backend.answer(ask(), report)).answer
        assert (answer.text, answer.sources) == ("half \ud83d", ["half \ud83d"])
        with pytest.raises(Permanent, match="half \ud83d"):
            await backend.answer(ask(), report)
        await backend.probe()

    with_started(command(tmp_path, "lines of every form"), scene)
    assert report.pieces == ["\ud83d", "\ude00"]  # the worker makes one character of them


def test_a_context_folder_whose_name_is_no_text_is_told_as_python_escapes_it(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()

    async def scene(backend: Command) -> None:
        told = json.loads((await backend.answer(ask(), Listener())).answer.text)
        assert told["context"] == [str(folder)]

    with_started(command(folder, "says what it was told"), scene)


def test_what_an_answer_costs_is_taken_from_it_and_nonsense_there_is_a_breach(
    tmp_path: Path,
) -> None:
    async def scene(backend: Command) -> None:
        assert (await backend.answer(ask(), Listener())).usage == USAGE
        with pytest.raises(Broken, match=r"JSON of the wrong form .*usage.input_tokens"):
            await backend.answer(ask(), Listener())

    with_started(command(tmp_path, "costly"), scene)


def test_the_program_is_told_question_context_and_time(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("notes")
    script = (
        "import json,sys\n"
        "said = json.loads(sys.stdin.readline())\n"
        "print(json.dumps({'id': said.pop('id'), 'answer': json.dumps(said)}), flush=True)\n"
        "sys.stdin.readline()\n"
    )
    options = {"command": [sys.executable, "-c", script]}
    backend = Command(Setting(shard="main", root=tmp_path, context=[tmp_path], options=options))

    async def scene(backend: Command) -> None:
        reply = await backend.answer(ask("wörter?\n", "notes.md"), Listener())
        assert json.loads(reply.answer.text) == {
            "question": "wörter?\n",
            "context": [str(tmp_path)],
            "context_file": str(tmp_path / "notes.md"),
            "conversation": "c",
            "timeout_ms": 5000,
        }

    with_started(backend, scene)


def test_a_context_file_from_outside_never_reaches_the_program(tmp_path: Path) -> None:
    async def scene(backend: Command) -> None:
        with pytest.raises(Permanent, match=r"not among"):
            await backend.answer(ask("?", "/etc/passwd"), Listener())
        await backend.probe()

    with_started(command(tmp_path, "silent"), scene)


def test_the_program_sees_only_allowed_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDECODE", "1")
    monkeypatch.setenv("SECRET_KEY", "hidden")
    monkeypatch.setenv("MODEL_KEY", "wanted")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("AUTOPOLL_INSTANCE", "worker")
    seen: dict[str, str] = {}

    async def scene(backend: Command) -> None:
        seen.update(json.loads((await backend.answer(ask(), Listener())).answer.text))

    with_started(command(tmp_path, "environment", env=["MODEL_KEY", "NOT_SET"]), scene)
    assert seen["PATH"] == os.environ["PATH"]
    assert (seen["MODEL_KEY"], seen["LC_ALL"], seen["AUTOPOLL_INSTANCE"]) == (
        "wanted", "C.UTF-8", "worker",
    )  # fmt: skip
    assert not {"CLAUDECODE", "SECRET_KEY", "NOT_SET"} & seen.keys()


def test_the_program_is_in_our_process_group_and_inherits_no_descriptor(tmp_path: Path) -> None:
    async def group(backend: Command) -> None:
        assert (await backend.answer(ask(), Listener())).answer.text == str(os.getpgrp())

    async def descriptors(backend: Command) -> None:
        # 3 is the folder being listed.
        assert (await backend.answer(ask(), Listener())).answer.text == "0,1,2,3"

    with_started(command(tmp_path, "group"), group)
    leaky = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(leaky, True)
    with_started(command(tmp_path, "descriptors"), descriptors)
    os.close(leaky)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "lacks the key `command`"),
        ({"command": []}, "length >= 1"),
        (
            {"command": ["no-such-program-anywhere"]},
            "there is no program 'no-such-program-anywhere'",
        ),
        ({"command": ["./not-executable"]}, "there is no program './not-executable'"),
        ({"command": "cat"}, "Expected `array`, got `str`"),
        ({"command": ["cat"], "env": ["CLAUDECODE"]}, "CLAUDECODE may not be passed on"),
        ({"command": ["cat"], "ready_timeout": 5}, "5 is not a duration"),
        ({"command": ["cat"], "concurrency": 0}, "concurrency"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_starts(
    tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    with pytest.raises(ConfigError) as refusal:
        Command(Setting(shard="main", root=tmp_path, context=[], options=options))
    assert refusal.value.what.startswith("shards.main.options")
    assert expected in refusal.value.what


def test_a_program_named_with_a_slash_is_meant_from_the_home(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "answer"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nread line\necho \'{"id":1,"answer":"from home"}\'\nread line\n')
    program.chmod(0o755)
    options = {"command": ["bin/answer"]}
    backend = Command(Setting(shard="main", root=tmp_path, context=[], options=options))

    async def scene(backend: Command) -> None:
        assert (await backend.answer(ask(), Listener())).answer.text == "from home"

    with_started(backend, scene)


def test_a_program_that_cannot_be_executed_after_all_is_broken_at_start(tmp_path: Path) -> None:
    program = tmp_path / "answer"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    options = {"command": ["./answer"]}
    backend = Command(Setting(shard="main", root=tmp_path, context=[], options=options))

    async def main() -> None:
        with pytest.raises(Broken, match=r"cannot be started: No such file"):
            await backend.start()
        await backend.stop()

    asyncio.run(main())
