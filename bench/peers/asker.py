"""The process that asks in a turn, and what the run says to it.

    python -m bench.peers.asker MODULE

It reads orders, a line of JSON each, and writes how long each of the laps took, so that the run
itself loads no library of any contender and its own processor time is in no figure.
"""

import importlib
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO

import msgspec

from bench.peers.apps import Ask
from bench.peers.child import failed, running

BYTES = 300
TEXT = ("What does a question cost that is kept, answered once, and handed back? " * 5)[:BYTES]
_ANSWER_S = 120.0  # for a lap


class Order(msgspec.Struct, frozen=True):
    """Laps of so many questions: one after the other in a commit each, or all `together`."""

    count: int
    laps: int
    together: bool


class Asker:
    """An asker that runs, from outside."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._folder = folder
        self._reply()  # it is ready

    def seconds(self, count: int, *, laps: int = 1, together: bool = False) -> list[float]:
        """Have so many questions asked and answered in each lap; return how long each took."""
        assert self._process.stdin
        order = Order(count=count, laps=laps, together=together)
        with suppress(BrokenPipeError):  # then it has ended, as the reply will tell
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            self._process.stdin.flush()
        return self._reply()

    def _reply(self) -> list[float]:
        """Wait for a line; raise ProgramFailed when none comes."""
        assert self._process.stdout
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        if not poll.poll(_ANSWER_S * 1000):
            raise failed("the asker", f"did not answer for {_ANSWER_S:.0f} s", self._folder)
        line = self._process.stdout.readline()
        if not line:
            raise failed("the asker", "has ended", self._folder)
        return msgspec.json.decode(line, type=list[float])


@contextmanager
def asker(module: str, folder: Path) -> Iterator[Asker]:
    """Run the asker of a contender in the folder of its turn."""
    command = [sys.executable, "-m", __spec__.name, module]
    with running(command, folder, with_pipes=True) as process:
        yield Asker(process, folder)


def main() -> None:
    """Carry out orders until there are no more, or TERM ends it in good order."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    answers = sys.stdout
    with (
        suppress(KeyboardInterrupt),
        redirect_stdout(sys.stderr),
        importlib.import_module(sys.argv[1]).asking() as ask,
    ):
        _answer(answers, [])
        for line in sys.stdin:
            order = msgspec.json.decode(line, type=Order)
            _answer(answers, [lap(ask, order) for _ in range(order.laps)])


def lap(ask: Ask, order: Order) -> float:
    """Ask a lap of questions and return the seconds until all answers were there and right."""
    texts = [TEXT] * order.count
    began = time.perf_counter()
    answers = ask(texts, together=order.together)
    took = time.perf_counter() - began
    if answers != texts:
        raise AssertionError(f"of {len(texts)} answers some are wrong: {answers}")
    return took


def _answer(answers: TextIO, seconds: list[float]) -> None:
    print(msgspec.json.encode(seconds).decode(), file=answers, flush=True)


if __name__ == "__main__":
    main()
