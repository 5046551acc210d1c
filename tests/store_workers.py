"""Processes that work on one store until they are killed, for tests that kill them."""

import multiprocessing
import multiprocessing.process
import os
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.errors import BridgeBusy

LIMITS = BridgeLimits(max_attempts=10_000)
LEASE_MS = 150
FORK = multiprocessing.get_context("fork")

Work = Callable[[SqliteBridge], None]
StoreWorker = multiprocessing.process.BaseProcess


def chance_of_test() -> random.Random:
    """Return the dice of a test; AUTOPOLL_TEST_SEED repeats a run."""
    seed = int(os.environ.get("AUTOPOLL_TEST_SEED") or random.randrange(2**32))
    print(f"AUTOPOLL_TEST_SEED={seed}")  # pytest shows it when the test fails
    return random.Random(seed)


def start(path: Path, work: Work) -> StoreWorker:
    """Begin to work on a store in a process of its own."""
    process = FORK.Process(target=_insist, args=(path, work), daemon=True)
    process.start()
    return process


def stop(workers: list[StoreWorker]) -> None:
    for each in workers:
        each.kill()
        each.join()


def _insist(path: Path, work: Work) -> None:
    """Work until it is done; on a busy machine a lock is waited for in vain, so begin again."""
    while True:
        try:
            with closing(SqliteBridge(path, LIMITS)) as bridge:
                return work(bridge)
        except BridgeBusy:
            continue
