"""What the processes of a turn use: servers, workers and asker, which are all that is below us."""

from collections.abc import Iterable

import psutil

from bench.cost.upkeep import upkeep


def processes() -> list[psutil.Process]:
    """Return everything that runs below this process."""
    return psutil.Process().children(recursive=True)


def processor_s(each: Iterable[psutil.Process]) -> float:
    """Return the processor time that the processes have used so far, and what they have reaped."""
    total = 0.0
    for process in each:
        try:
            ended = process.cpu_times()
            total += upkeep(process.pid).cpu_s + ended.children_user + ended.children_system
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue  # its time is with its parent now
    return total


def memory_bytes(each: Iterable[psutil.Process]) -> int:
    """Return what the processes hold, with what they share counted once."""
    total = 0
    for process in each:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total
