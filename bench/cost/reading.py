"""How `extract` bears a large context: its index, and what a question takes."""

import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from autopoll.backends.context.reader import LARGEST
from bench.cost.figures import Figure, Point, Say, interleave
from bench.cost.prose import Prose
from bench.cost.reader import Built

SECTION = "growth"
MEGABYTES = (1, 10, 100)
ROUNDS = 9
QUESTIONS = 20  # a lap
SEED = 4
MB = 1_000_000


def measure(scale: float, folder: Path, say: Say) -> list[Figure]:
    """Return the memory and time of each index, and the time of a question to it.

    A context beyond the limit of `extract` is cut down to it, and its figures say so.
    """
    notes: dict[str, str] = {}
    sizes: dict[str, int] = {}
    readers: dict[str, Reader] = {}
    with ExitStack() as stack:
        for megabytes in MEGABYTES:
            size = round(min(megabytes * scale * MB, LARGEST))
            name = f"{size / MB:.3g} MB of context"
            sizes[name] = size
            if size < megabytes * scale * MB:
                notes[name] = (
                    f"in place of {megabytes * scale:g} MB: extract takes {LARGEST >> 20} MiB"
                )
            say(f"writing {name}")
            text = folder / f"context-{megabytes}"
            Prose(SEED).write(text, size)
            say(f"indexing {name}")
            readers[name] = stack.enter_context(Reader(text))
        questions = max(1, round(QUESTIONS * scale))
        spreads = interleave(
            {name: partial(each.samples, questions) for name, each in readers.items()},
            max(1, round(ROUNDS * min(scale, 1))),
            say,
        )
    figures = []
    floor = next(iter(spreads))
    for name, found in spreads.items():
        note = notes.get(name, "")
        figures += [
            Figure(
                section=SECTION,
                name=f"memory of the index of {name}",
                value=readers[name].built.memory_bytes,
                unit="bytes",
                note=note,
                point=Point("memory of the index", sizes[name] / MB, "MB of context"),
            ),
            Figure(
                section=SECTION,
                name=f"indexing {name}",
                value=readers[name].built.seconds,
                unit="s",
                note=note,
            ),
            Figure(
                section=SECTION,
                name=f"question to {name}",
                value=found.p50 * 1000,
                p99=found.p99 * 1000,
                unit="ms",
                ratio=None if name == floor else found.p50 / spreads[floor].p50,
                p99_ratio=None if name == floor else found.p99 / spreads[floor].p99,
                floor=None if name == floor else f"question to {floor}",
                note=note,
                point=Point("question", sizes[name] / MB, "MB of context"),
            ),
        ]
    return figures


class Reader:
    """The process that holds one index, and who asks it: everyone the same, in the same order."""

    def __init__(self, folder: Path) -> None:
        self._author = Prose(SEED)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.cost.reader", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us alone, and we end it
        )
        try:
            self.built = msgspec.json.decode(self._line(), type=Built)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def samples(self, count: int) -> list[float]:
        """Return the seconds that so many new questions took, one after the other."""
        questions = [self._author.question() for _ in range(count)]
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(questions) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._line(), type=list[float])

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"the reader ended with {self._process.wait()}")
        return line

    def _end(self) -> None:
        with self._process as process:  # closes its pipes, and waits
            process.kill()
