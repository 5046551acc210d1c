"""Which worker works on which question."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from autopoll.clock import wall_ms
from autopoll.home.home import Home
from autopoll.ops.under_way import under_way
from autopoll.process import heartbeat
from autopoll.process.heartbeat import SHOWN
from autopoll.process.heartbeat_writer import Heart


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "var").mkdir()
    return Home(tmp_path)


@pytest.fixture
def heart(home: Home) -> Iterator[Heart]:
    home.beats.mkdir(parents=True)
    with ExitStack() as stack:
        yield stack.enter_context(Heart.open(home.beats, "worker-docs-1", "worker"))


def test_a_question_is_shown_from_its_begin_to_its_end(home: Home, heart: Heart) -> None:
    before = wall_ms()
    heart.begin(1, 1e9, 42)
    found = under_way(home)[42]
    assert (found.question, found.worker) == (42, "worker-docs-1")
    assert before - 5 <= found.since <= wall_ms() + 5
    heart.begin(2, 1e9, 43)
    assert sorted(under_way(home)) == [42, 43]
    heart.end(1, ok=True)
    assert list(under_way(home)) == [43]
    heart.end(2, ok=False)
    assert under_way(home) == {}


def test_as_many_as_a_beat_has_room_for_are_shown_the_oldest(home: Home, heart: Heart) -> None:
    heart.note, heart.settings = "x" * 200, "f" * 64
    for number in range(SHOWN + 9):
        heart.begin(number, time.monotonic() + 60, 2**63 - 1 - number)
    assert sorted(under_way(home)) == sorted(2**63 - 1 - number for number in range(SHOWN))
    for number in range(SHOWN):
        heart.end(number, ok=True)
    assert len(under_way(home)) == 9


def test_a_worker_that_is_gone_works_on_nothing(home: Home, heart: Heart) -> None:
    heart.begin(1, 1e9, 42)
    heart.close()
    assert under_way(home) == {}


def test_a_worker_that_was_killed_works_on_nothing(
    home: Home, heart: Heart, monkeypatch: pytest.MonkeyPatch
) -> None:
    heart.begin(1, 1e9, 42)
    monkeypatch.setattr(heartbeat, "is_alive", lambda _: False)
    assert under_way(home) == {}


def test_a_home_that_was_never_up_works_on_nothing(home: Home) -> None:
    assert under_way(home) == {}
