"""The floor: the smallest chain that promises the same."""

from collections.abc import Iterator
from contextlib import contextmanager

from bench.cost.floor import floor
from bench.peers.apps import Ask, here


@contextmanager
def asking() -> Iterator[Ask]:
    with floor(here()) as below:
        yield below.ask
