"""On which cores the two ends of channels run."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from bench.ipc.contract import Channel


@contextmanager
def one_core(channels: Iterable[Channel]) -> Iterator[None]:
    """Keep us, and the servers of the channels, on the last core that we may use."""
    ends = [0, *(channel.server.pid for channel in channels if channel.server)]
    before = os.sched_getaffinity(0)
    _place(ends, {max(before)})
    try:
        yield
    finally:
        _place(ends, before)


def _place(ends: Iterable[int], cores: set[int]) -> None:
    for end in ends:
        os.sched_setaffinity(end, cores)
