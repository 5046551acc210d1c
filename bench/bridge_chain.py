"""What a message costs the store: send, take and settle, one by one and in batches (microseconds).

Run: python bench/bridge_chain.py [questions] [folder]. Durable commits (synchronous=FULL), so the
folder should lie on the disk that counts.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from autopoll.bridge.contract import Answered, Delivery, Limits
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.message import Answer

LEASE_MS = 60_000
LIMITS = Limits(rate_per_s=1e6, rate_burst=10**6)


class Laps:
    """Times of each step."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def time(self, name: str, step: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = step()
        self.times.setdefault(name, []).append((time.perf_counter() - start) * 1e6)
        return result

    def show(self) -> None:
        for name, times in self.times.items():
            times.sort()
            middle, high = statistics.median(times), times[int(len(times) * 0.99)]
            print(f"{name:28} p50 {middle:9.1f}  p99 {high:9.1f}")


def answered(delivery: Delivery) -> Answered:
    return Answered(
        message_id=delivery.message_id, fence=delivery.fence, answer=Answer(text="because")
    )


def chain(path: Path, count: int) -> None:
    """One question at a time, from another connection than the one that answers."""
    asker = SqliteBridge(path, LIMITS, create=True)
    poller = SqliteBridge(path, Limits())
    conversation = asker.create_conversation("asker", "shard").conversation
    asker.serve(conversation, "b", "main")
    laps = Laps()
    for number in range(count):
        laps.time("send", lambda: asker.send(conversation, "a", [f"why {number}?"], [None]))  # noqa: B023
        taken = laps.time("take", lambda: poller.take("me", {"main": 4}, LEASE_MS))
        laps.time("settle", lambda: poller.settle([answered(one) for one in taken]))  # noqa: B023
        laps.time("take, nothing there", lambda: poller.take("me", {"main": 4}, LEASE_MS))
        laps.time("query", lambda: asker.query(taken[0].message_id))  # noqa: B023
        laps.time("reap, nothing there", poller.reap)
        laps.time("changed", asker.changed)
    whole = sum(statistics.median(laps.times[name]) for name in ("send", "take", "settle"))
    laps.show()
    print(f"{'send + take + settle':28} p50 {whole:9.1f}")
    asker.close()
    poller.close()


def batches(path: Path, count: int, size: int) -> None:
    """Independent questions, sent, taken and settled `size` at a time."""
    bridge = SqliteBridge(path, LIMITS, create=True)
    conversation = bridge.create_conversation("asker", "shard").conversation
    bridge.serve(conversation, "b", "main")
    start = time.perf_counter()
    for _ in range(count // size):
        bridge.send(conversation, "a", ["why?"] * size, ['{"lane":"own"}'] * size)
        taken = bridge.take("me", {"main": size}, LEASE_MS)
        bridge.settle([answered(one) for one in taken])
    rate = count / (time.perf_counter() - start)
    print(f"{f'batches of {size}':28} {rate:13,.0f} questions/s")
    bridge.close()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    parent = sys.argv[2] if len(sys.argv) > 2 else None
    print(f"SQLite {apsw.sqlite_lib_version()}, {count} questions")
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        chain(Path(folder) / "chain.db", count)
        for size in (1, 10, 100):
            batches(Path(folder) / f"batch{size}.db", count, size)


if __name__ == "__main__":
    main()
