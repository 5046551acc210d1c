"""A process that holds one index of `extract`, so that its memory is nobody else's.

    python -m bench.cost.reader FOLDER

Says once what the index took, then answers each line of questions with a line of seconds; ends
with its input. Lines are JSON.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

import msgspec

from autopoll.backends.contract import NullReport, Setting
from autopoll.backends.extract import Extract
from autopoll.process.proc_stat import read_stat
from autopoll.request import Request


class Built(msgspec.Struct, frozen=True):
    """What it took to read the folder; memory is what the process grew by."""

    seconds: float
    memory_bytes: int


async def read(folder: Path) -> None:
    """Index the folder and answer until nobody asks any more."""
    extract = Extract(Setting(shard="main", root=folder.parent, context=[folder]))
    before, start = _resident(), time.perf_counter()
    await extract.start()
    _write(Built(time.perf_counter() - start, _resident() - before))
    for line in sys.stdin:
        seconds = []
        for number, question in enumerate(msgspec.json.decode(line, type=list[str])):
            request = Request(
                delivery=number,
                fence=1,
                attempt=1,
                timeout_ms=60_000,
                conversation="bench",
                question=question,
            )
            start = time.perf_counter()
            await extract.answer(request, NullReport())
            seconds.append(time.perf_counter() - start)
        _write(seconds)
    await extract.stop()


def _resident() -> int:
    me = read_stat(os.getpid())
    assert me is not None
    return me.rss_bytes


def _write(what: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(read(Path(sys.argv[1])))
