"""A command that asks before it changes much, on a terminal."""

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from bridge_calls import OWN, ask, claim, failed, settle, talk
from place import Place
from terminal import OnTerminal

from autopoll.errors import Exit


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A home with two dead letters, which is down."""
    place = Place(tmp_path / "home")
    with closing(place.bridge()) as bridge:
        ask(bridge, talk(bridge), "one", "two", metadata=OWN)
        for each in claim(bridge):
            settle(bridge, failed(each, permanent=True))
    yield place
    place.state.cleanup()


@pytest.mark.parametrize(
    ("answer", "code", "left"),
    [
        ("y\n", Exit.OK, 0), (" YES \n", Exit.OK, 0), ("n\n", Exit.FAILED, 2),
        ("\n", Exit.FAILED, 2), ("\x04", Exit.FAILED, 2), ("yesterday\n", Exit.FAILED, 2),
        (None, Exit.INTERRUPTED, 2),
    ],
)  # fmt: skip
def test_only_a_yes_is_one(place: Place, answer: str | None, code: Exit, left: int) -> None:
    words = [*place.command, "dead", "drop", "--all"]
    terminal = OnTerminal(words, place.root, place.environ, (80, 24))
    try:
        terminal.sees("Drop 2 dead letters? [y/N] ")
        if answer is None:
            terminal.signal(signal.SIGINT)
        else:
            terminal.type(answer)
        assert terminal.ends() == code
        assert ("nothing was changed" in terminal.text) == (code == Exit.FAILED)
        assert "Traceback" not in terminal.text
    finally:
        terminal.close()
    assert len(place.json_lines("dead", "list")) == left
