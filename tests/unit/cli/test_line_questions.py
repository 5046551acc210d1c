"""Questions a line: what is asked of them, what is refused, and what is said at the end."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hand_poller import HandPoller

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import SentMessage, Stored
from autopoll.cli import main
from autopoll.cli.ask import _Asking
from autopoll.cli.base_command import CommandLine
from autopoll.cli.line_questions import BATCH, MOST_OUTSTANDING, LineQuestions, Lines
from autopoll.client import poller_link
from autopoll.client.client import Client
from autopoll.errors import BridgeBusy, Exit, NotFound, UsageError
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.message import read_query

LIMIT = 1024
CONFIG = """
[delivery]
max_message = 1024
[access]
rate_per_second = {rate}
rate_burst = {burst}
[shards.main]
backend = "echo"
[shards.other]
backend = "echo"
"""


def make_home(root: Path, *, rate: float = 10_000, burst: int = 10_000) -> Home:
    (root / "autopoll.toml").write_text(CONFIG.format(rate=rate, burst=burst))
    assert main(["--home", str(root), "init"]) == Exit.OK
    return Home(root)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


@pytest.fixture
def poller(home: Home) -> Iterator[HandPoller]:
    with HandPoller(home, room=10_000) as poller:
        yield poller


class RefusingClient(Client):
    """Refuses, of shard main, the question `no`, as a store may."""

    def submit(
        self, questions: Sequence[str], shard: str, **more: Any
    ) -> tuple[list[Stored], bool]:
        taken = [each for each in questions if (each, shard) != ("no", "main")]
        stored, listening = super().submit(taken, shard, **more)
        rest = iter(stored)
        refused = UsageError("refused")
        return [
            refused if (each, shard) == ("no", "main") else next(rest) for each in questions
        ], listening


class Asking(LineQuestions):
    """Of a pipe that holds these lines, and whose other end is closed."""

    def __init__(self, home: Home, bridge: Bridge, lines: str, *shards: str) -> None:
        reading, writing = os.pipe()
        os.write(writing, lines.encode())
        os.close(writing)
        cli = CommandLine()
        cli.json = True
        super().__init__(
            home,
            cli,
            RefusingClient(home, load(home), bridge),
            Lines(reading, LIMIT, None),
            list(shards or ["main"]),
            None,
            60.0,
        )
        self.reading = reading

    def __exit__(self, *error: Any) -> None:
        os.close(self.reading)
        super().__exit__(*error)


@pytest.fixture
def bridge(home: Home) -> Iterator[Bridge]:
    with closing(connect(home, load(home))) as bridge:
        yield bridge


def questions(bridge: Bridge) -> list[str]:
    return [
        read_query(each.text).question for each in bridge.messages.find(kind="query", limit=10_000)
    ]


def printed(capsys: pytest.CaptureFixture[str]) -> list[tuple[int, str]]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [(line["id"], line["status"]) for line in lines]


@contextmanager
def answering(poller: HandPoller) -> Iterator[None]:
    """Answer, in a thread, whatever is asked."""
    over = threading.Event()

    def answer() -> None:
        while not over.wait(0.01):
            poller.answer()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_of_what_comes_at_once_no_more_is_asked_than_may_be_outstanding(
    home: Home, poller: HandPoller, bridge: Bridge, capsys: pytest.CaptureFixture[str]
) -> None:
    with Asking(home, bridge, "?\n" * (MOST_OUTSTANDING + BATCH)) as asking:
        asking.wait(0.0)
        poller.claims(MOST_OUTSTANDING)
        assert len(asking.ids) == len(poller.claimed) == MOST_OUTSTANDING
        with answering(poller):
            assert asking.run() == Exit.OK
    outcomes = printed(capsys)
    assert [status for _, status in outcomes] == ["answered"] * (MOST_OUTSTANDING + BATCH)
    assert outcomes == sorted(outcomes)


def test_what_the_store_refuses_is_said_after_the_outcomes_before_it(
    home: Home, poller: HandPoller, bridge: Bridge, capsys: pytest.CaptureFixture[str]
) -> None:
    with Asking(home, bridge, "one\ntwo\nno\nwith it\n" + "?\n" * BATCH) as asking:
        asking.wait(0.0)
        poller.claims(BATCH - 1)
        poller.answer()
        capsys.readouterr()
        with pytest.raises(UsageError, match="refused"):
            asking.run()
    first, second, *behind = printed(capsys)
    assert [first, second] == [(1, "answered"), (2, "answered")]
    assert behind == [(each, "pending") for each in range(3, BATCH)], "of the same batch"
    assert len(questions(bridge)) == BATCH - 1


def test_what_comes_before_a_refused_line_is_asked_of_every_shard_and_nothing_after_it(
    home: Home, poller: HandPoller, bridge: Bridge
) -> None:
    with Asking(home, bridge, "one\nno\nwith it\n", "main", "other") as asking:
        asking.wait(0.0)
        assert sorted(questions(bridge)) == ["one", "one", "with it"]


def test_what_keeps_all_from_being_asked_is_said_after_the_outcomes_before_it(
    home: Home, poller: HandPoller, bridge: Bridge, capsys: pytest.CaptureFixture[str]
) -> None:
    with Asking(home, bridge, "one\n", "main", "nowhere") as asking:
        asking.wait(0.0)
        poller.claims(1)
        poller.answer()
        capsys.readouterr()
        with pytest.raises(NotFound, match="nowhere"):
            asking.run()
    assert printed(capsys) == [(1, "answered")]


def test_a_line_that_is_too_large_as_it_is_stored_ends_the_input(
    home: Home, poller: HandPoller, bridge: Bridge
) -> None:
    quotes = '"' * (LIMIT * 2 // 3)
    with Asking(home, bridge, f"one\n{quotes}\nafter\n") as asking:
        asking.wait(0.0)
        poller.claims(1)
        poller.answer()
        with pytest.raises(UsageError, match="written as JSON, is longer than 1,024 bytes"):
            asking.run()
    assert questions(bridge) == ["one"]


def test_a_wait_goes_on_while_the_rate_limit_keeps_the_first_line_back(
    home: Home, tmp_path: Path
) -> None:
    make_home(tmp_path, rate=0.1, burst=1)
    with (
        HandPoller(home),
        closing(connect(home, load(home))) as bridge,
        Asking(home, bridge, "one\ntwo\n") as asking,
        Asking(home, bridge, "three\n") as held_back,
    ):
        asking.wait(0.0)
        assert len(asking.ids) == 1
        begun = time.monotonic()
        held_back.wait(0.3)
        assert time.monotonic() - begun >= 0.3
        assert held_back.ids == []


def test_a_poller_that_cannot_be_spoken_to_keeps_no_line_from_being_asked(
    home: Home, poller: HandPoller, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_link, "VERSION", poller_link.VERSION + 1)
    with Asking(home, bridge, "?\n" * (BATCH + 1)) as asking:
        asking.wait(0.0)
        assert asking.trouble, "it is tried again after seconds"
        assert len(asking.ids) == BATCH + 1


# --- what is said at the end


@pytest.mark.parametrize(("lines", "words"), [("", "was sent"), ("one\n", "is waited for")])
def test_ctrl_c_says_whether_anything_was_sent_of_which_nothing_is_waited_for(
    home: Home,
    poller: HandPoller,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    lines: str,
    words: str,
) -> None:
    wait = LineQuestions.wait

    def interrupted_wait(asking: LineQuestions, seconds: float) -> bool:
        if not asking.ids:
            raise KeyboardInterrupt
        return wait(asking, seconds)

    monkeypatch.setattr(LineQuestions, "wait", interrupted_wait)
    reading, writing = os.pipe()
    os.write(writing, lines.encode())
    with os.fdopen(reading) as stdin, os.fdopen(writing), answering(poller):
        monkeypatch.setattr(sys, "stdin", stdin)
        code = main(["--home", str(home.root), "ask", "--lines", "--json"])
    assert code == Exit.INTERRUPTED
    assert json.loads(capsys.readouterr().err)["error"] == f"interrupted; nothing {words}"


def test_a_question_whose_outcome_cannot_be_printed_is_named(
    home: Home, poller: HandPoller
) -> None:
    with Path("/dev/full").open("w") as full, answering(poller):
        asking = subprocess.run(
            [sys.executable, "-m", "autopoll", "ask", "--lines", "--json"],
            cwd=home.root, input="one\n", stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=60,
        )  # fmt: skip
    assert asking.returncode == Exit.FAILED
    said = json.loads(asking.stderr)["mend"]
    assert said == "The question is kept; fetch with: autopoll answer 1"


def test_input_that_cannot_be_read_is_said_after_the_outcomes_before_it(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "unreadable", os.O_WRONLY | os.O_CREAT)
    try:
        lines = Lines(descriptor, LIMIT, None)
        assert lines.take(1) == []
        assert lines.refusal
        assert lines.refusal.what == "stdin cannot be read: Bad file descriptor"
        assert lines.ended
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("arguments", [["-"], ["--lines"], ["--lines", "--json"]])
def test_a_stdin_that_cannot_be_read_is_no_bug_of_ours(
    home: Home, tmp_path: Path, arguments: list[str]
) -> None:
    with (tmp_path / "unreadable").open("w") as unreadable:
        ran = subprocess.run(
            [sys.executable, "-m", "autopoll", "--home", str(home.root), "ask", *arguments],
            stdin=unreadable,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == Exit.USAGE
    assert "stdin cannot be read: Bad file descriptor" in ran.stdout + ran.stderr


def test_an_error_names_the_questions_of_the_command_that_are_stored(home: Home) -> None:
    stored = [SentMessage(id=7, fresh=True), BridgeBusy("it is locked", "Try again.")]
    client: Any = SimpleNamespace(submit=lambda *_, **__: (stored, True))
    cli: Any = SimpleNamespace(json=False, config=load(home, {}))
    asking = _Asking(cli, client, None, ["main"], ["1", "2"], None)  # type: ignore[arg-type]
    with pytest.raises(BridgeBusy) as refused:
        asking.store()
    assert refused.value.mend == ("Try again. The question is kept; fetch with: autopoll answer 7")
