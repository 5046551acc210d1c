"""The command line of a measurement: which signals end it, and which numbers it takes."""

import argparse
import signal
from collections.abc import Iterator

import pytest

from autopoll.errors import Down
from bench import command

ENDING = (signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def struck(number: signal.Signals) -> int:
    signal.raise_signal(number)
    return 0


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_a_measurement_as_ctrl_c_does(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)
    ended = []

    def main() -> int:
        try:
            return struck(number)
        finally:
            ended.append(number)

    assert command.run(main) == 130
    assert ended == [number]


def test_a_signal_that_nohup_has_ignored_ends_nothing() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert command.run(lambda: struck(signal.SIGHUP)) == 0


def test_an_error_is_printed_with_what_to_do_and_gives_its_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def main() -> int:
        raise Down("it is down", "Bring it up.")

    assert command.run(main) == Down.exit_code
    assert capsys.readouterr().err == "autopoll: it is down\n  Bring it up.\n"


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (command.number(int, 1, 5000), "0", "'0' is not a whole number from 1 to 5,000"),
        (command.number(int, 1, 5000), "5001", "from 1 to 5,000"),
        (command.number(int, 1, 5000), "1.5", "'1.5' is not a whole number"),
        (command.scale, "nan", "'nan' is not a number from 0.001 to 10.0"),
        (command.scale, "x", "'x' is not a number"),
        (command.scale, "", "'' is not a number"),
    ],
)
def test_a_number_that_is_refused_is_named_with_what_is_taken(read, text, words) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        read(text)


def test_the_bounds_of_a_number_are_taken() -> None:
    assert [command.scale("0.001"), command.scale("10")] == [0.001, 10.0]
    assert [command.number(int, 1, 5)(text) for text in ("1", "5")] == [1, 5]
