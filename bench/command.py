"""The command line of a measurement: its end by a signal, and numbers within bounds."""

import argparse
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from autopoll.errors import AutopollError, Exit

Number = TypeVar("Number", int, float)


def run(main: Callable[[], int]) -> int:
    """Run a measurement and return its exit code; signals and errors end it in good order."""
    end_by_signals()
    try:
        return main()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except AutopollError as error:
        print(f"autopoll: {error}", file=sys.stderr)
        return error.exit_code


def end_by_signals() -> None:
    """Let TERM and HUP raise KeyboardInterrupt, as INT does, so that what was started is ended."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup HUP is ignored
            signal.signal(number, signal.default_int_handler)


def number(kind: type[Number], low: Number, high: Number) -> Callable[[str], Number]:
    """Return what reads such a number for argparse, the bounds included."""
    what = "a whole number" if kind is int else "a number"

    def read(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:  # nan neither
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} from {low:,} to {high:,}")
        return value

    return read


scale = number(float, 0.001, 10.0)
