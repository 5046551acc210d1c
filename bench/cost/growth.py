"""Whether it stays quick: claim and answer with a million messages, search in a large context."""

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from autopoll.bridge.protocols import Bridge
from bench.cost import history, reading
from bench.cost.figures import Figure, Point, Say, interleave

SECTION = "growth"
MESSAGES = (0, 1_000, 100_000, 1_000_000)
QUEUED = 100_000
ROUNDS = 9
CHAINS = 20  # questions a lap
STEPS = ("send", "claim", "settle", "first look")
CLAIM_TARGET = 1.5  # with a million messages, over none
US = 1e6
AXIS = "messages in the bridge"


def measure(scale: float, folder: Path, say: Say) -> list[Figure]:
    """Return the figures of both: the bridge as it fills, and the index of `extract`."""
    return [*_bridge(scale, folder, say), *reading.measure(scale, folder, say)]


def _bridge(scale: float, folder: Path, say: Say) -> list[Figure]:
    with ExitStack() as stack:
        desks = {}
        counts = {}
        for count in sorted({2 * round(each * scale / 2) for each in MESSAGES}):
            say(f"filling a bridge with {count:,} messages")
            path = folder / f"answered-{count}.db"
            names = history.answered(path, count)
            desk = Desk(path, names, history.OWN_LANE)
            desks[f"{count:,} messages"] = stack.enter_context(closing(desk))
            counts[f"{count:,} messages"] = count
        fullest = list(desks)[-1]
        count = max(2, round(QUEUED * scale))
        say(f"queueing {count:,} questions in one conversation")
        path = folder / "queued.db"
        desk = Desk(path, history.queued(path, count), None)
        desks[f"{count:,} queued in one conversation"] = stack.enter_context(closing(desk))
        empty = next(iter(desks))
        for each in desks.values():
            each.samples("claim", CHAINS)  # what is read for the first time is not what grows
        chains = max(1, round(CHAINS * scale))
        spreads = interleave(
            {
                f"{step}, {name}": partial(desk.samples, step, chains)
                for step in STEPS
                for name, desk in desks.items()
            },
            max(1, round(ROUNDS * min(scale, 1))),
            say,
        )
        sizes = [each for name, desk in desks.items() for each in desk.sizes(name)]
    times = []
    for step in STEPS:
        floor = spreads[f"{step}, {empty}"]
        for name in desks:
            found = spreads[f"{step}, {name}"]
            times.append(
                Figure(
                    section=SECTION,
                    name=f"{step}, {name}",
                    value=found.p50 * US,
                    p99=found.p99 * US,
                    unit="us",
                    ratio=None if name == empty else found.p50 / floor.p50,
                    p99_ratio=None if name == empty else found.p99 / floor.p99,
                    floor=None if name == empty else f"{step}, {empty}",
                    target=CLAIM_TARGET if (step, name) == ("claim", fullest) else None,
                    note=NOTES.get(step, ""),
                    point=Point(step, counts[name], AXIS) if name in counts else None,
                )
            )
    return [*times, *sizes]


NOTES = {
    "claim": "enrols the question too; the empty one gets what is asked in it meanwhile",
    "first look": "at a start and once a minute: everything unread in each served conversation",
}


class Desk:
    """Asks and answers on one filled bridge."""

    def __init__(self, path: Path, conversations: list[str], metadata: str | None) -> None:
        self._path = path
        self._metadata = metadata
        self._conversations: Iterator[str] = itertools.cycle(conversations)
        self._bridge: Bridge = history.open_store(path)
        history.take_over(self._bridge)

    def close(self) -> None:
        """Let go of the bridge."""
        self._bridge.close()

    def samples(self, step: str, count: int) -> list[float]:
        """Return the seconds that one step took, each time for a question of its own."""
        if step == "first look":
            return [self._first_look()]
        return [self._chain()[step] for _ in range(count)]

    def sizes(self, name: str) -> list[Figure]:
        """Return what it takes on disk."""
        parts = {"database": self._path, "WAL": Path(f"{self._path}-wal")}
        return [
            Figure(
                section=SECTION,
                name=f"size of {part}, {name}",
                value=path.stat().st_size,
                unit="bytes",
            )
            for part, path in parts.items()
        ]

    def _chain(self) -> dict[str, float]:
        """Take one question from send to answer, each in a conversation of its own in turn."""
        conversation = next(self._conversations)
        times = [time.perf_counter()]
        history.ask(self._bridge, conversation, self._metadata)
        times.append(time.perf_counter())
        claimed = history.claim(self._bridge)
        times.append(time.perf_counter())
        history.settle(self._bridge, claimed)
        times.append(time.perf_counter())
        steps = (after - before for before, after in itertools.pairwise(times))
        return dict(zip(("send", "claim", "settle"), steps, strict=True))

    def _first_look(self) -> float:
        with closing(history.open_store(self._path)) as bridge:
            start = time.perf_counter()
            bridge.deliveries.claim(history.OWNER, {}, history.LEASE_MS)
            return time.perf_counter() - start
