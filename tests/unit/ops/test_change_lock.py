"""Who changes a home has the turn alone, and whoever waits is told for whom."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from place import until

from autopoll.errors import TimedOut
from autopoll.home.home import Home
from autopoll.home.lock import holder_and_words
from autopoll.ops import change_lock
from autopoll.ops.change_lock import changing

HOLDER = """
import sys
from pathlib import Path
from autopoll.home.home import Home
from autopoll.ops.change_lock import changing
with changing(Home(Path(sys.argv[1])), "autopoll restart", print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Home, subprocess.Popen[str]]]:
    """A home whose turn another process has."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield Home(tmp_path), process
        process.kill()


def test_who_hangs_with_the_turn_is_named_and_not_waited_for_for_ever(
    held, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, process = held
    monkeypatch.setattr(change_lock, "LIMIT_S", 0.2)
    told: list[str] = []
    with (
        pytest.raises(TimedOut, match=f"`autopoll restart`.*process {process.pid}") as error,
        changing(home, "autopoll up", told.append),
    ):
        pass
    assert error.value.exit_code == 5
    assert told == [f"waiting: {error.value.what.partition(': ')[2]}"]


def test_the_turn_of_a_process_that_dies_goes_to_the_next(held) -> None:
    home, process = held
    told: list[str] = []

    def take() -> None:
        with changing(home, "autopoll down", told.append):
            told.append("mine")

    waiting = threading.Thread(target=take)
    waiting.start()
    until(lambda: told)
    assert "mine" not in told
    process.kill()
    waiting.join(20)
    assert told[-1] == "mine"


def test_an_error_in_the_turn_is_not_taken_for_a_wait_and_frees_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(ValueError), changing(home, "autopoll up", print):
        assert holder_and_words(home.change_lock)[1] == "autopoll up"
        raise ValueError
    assert holder_and_words(home.change_lock) == (None, "")
