"""From a question to its answer through a whole home, beside the floor in the same run.

The home runs as any other: authentication, redaction, rate limits, leases and order included; its
backend only echoes, so that what is left is what autopoll costs.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from autopoll.bridge.connect import connect
from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.ops.selftest.scratch_home import Scratch, scratch_home
from bench.cost.figures import Figure, Lap, Say, interleave
from bench.cost.floor import Floor, floor

SECTION = "chain"
ROUNDS = 5
ONE, MANY, OUTSTANDING = 300, 1000, 64  # questions of a lap
IDLE_S = 10.0
AFTER_IDLE = f"after {IDLE_S:.0f} s idle"
SPREADS = (1, 20, 1000)  # over how many conversations
INSTANCES = (2, 4, 16)
TEXT = "what is the floor?"
CONFIG = """
[access]
rate_per_second = 1000000.0
rate_burst = 1000000
[shards.main]
backend = "echo"
options.concurrency = 64
"""
_SHARD = """
[shards.by{0}]
backend = "echo"
instances = {0}
options.concurrency = 64
"""


class Asker:
    """Asks a home the way a connected program does; returns when all answers are there."""

    def __init__(self, scratch: Scratch, client: Client, connection: PollerConnection) -> None:
        self.scratch, self.client, self.connection = scratch, client, connection

    def together(self, count: int, shard: str = "main") -> None:
        """Ask independent questions in one commit."""
        self._wait(self.client.ask([TEXT] * count, shard, connection=self.connection).ids)

    def singly(self, count: int, shard: str = "main") -> None:
        """Ask independent questions in a commit each, without waiting in between."""
        self._wait(
            [
                number
                for _ in range(count)
                for number in self.client.ask([TEXT], shard, connection=self.connection).ids
            ]
        )

    def conversations(self, count: int) -> list[tuple[str, str]]:
        """Return conversations of the shard, each with the token to ask it."""
        bridge = self.client.bridge
        made = [bridge.conversations.create("asker", "shard") for _ in range(count)]
        for each in made:
            bridge.conversations.serve(each.conversation, "b", "main")
        return [(each.conversation, each.a) for each in made]

    def in_order(self, count: int, conversations: Sequence[tuple[str, str]]) -> None:
        """Ask in conversations in turn, in a commit each; each answers in its order."""
        ids = []
        for number in range(count):
            conversation, token = conversations[number % len(conversations)]
            session = self.client.sessions.authenticate(conversation, None, token)
            ids.append(self.client.send(conversation, session, TEXT))
        self._wait(ids)

    def _wait(self, ids: Sequence[int]) -> None:
        for result in self.client.wait(ids, self.connection, timeout=60):
            if result.answer != TEXT:
                raise AssertionError(f"question {result.id}: {result}")


def measure(scale: float, folder: Path, say: Say) -> list[Figure]:
    """Return the figures of the chain; `scale` shortens laps, rounds and pauses."""
    rounds = max(1, round(ROUNDS * min(1.0, scale * 2)))
    below_at = folder / "floor"
    below_at.mkdir()
    with ExitStack() as stack:
        below = stack.enter_context(floor(below_at))
        asker = stack.enter_context(home(folder, CONFIG))
        for _ in range(max(1, round(100 * scale))):  # neither is measured cold
            below.ask([TEXT])
            asker.together(1)
        figures = [
            *_latency(below, asker, scale, rounds, say),
            *_throughput(below, asker, scale, rounds, say),
        ]
    with home(folder, CONFIG + "".join(_SHARD.format(count) for count in INSTANCES)) as asker:
        return [*figures, *_instances(asker, scale, rounds, say)]


@contextmanager
def home(folder: Path, config: str) -> Iterator[Asker]:
    """Run a home in the folder, and give an asker to it."""
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_home(config, {}, folder))
        scratch.up(lambda _: None)
        bridge = stack.enter_context(closing(connect(scratch.home, scratch.config)))
        connection = stack.enter_context(PollerConnection(scratch.home))
        yield Asker(scratch, Client(scratch.home, scratch.config, bridge), connection)


def _latency(below: Floor, asker: Asker, scale: float, rounds: int, say: Say) -> Iterator[Figure]:
    """One question at a time, without a pause between them and after one."""
    count, pause = max(5, round(ONE * scale)), IDLE_S * scale
    ways = {"floor": lambda: below.ask([TEXT]), "product": lambda: asker.together(1)}
    for name, limits, laps in (
        ("one outstanding", (2.0, 2.0), {way: _each(count, ask) for way, ask in ways.items()}),
        (AFTER_IDLE, (1.5, None), {way: _rested(pause, ask) for way, ask in ways.items()}),
    ):
        seen = interleave(laps, rounds, partial(_say, say, name))
        lowest, ours = seen["floor"], seen["product"]
        yield Figure(
            section=SECTION,
            name=f"floor, {name}",
            value=lowest.p50 * 1e6,
            p99=lowest.p99 * 1e6,
            unit="us",
        )
        yield Figure(
            section=SECTION,
            name=name,
            value=ours.p50 * 1e6,
            p99=ours.p99 * 1e6,
            unit="us",
            floor=f"floor, {name}",
            ratio=ours.p50 / lowest.p50,
            p99_ratio=ours.p99 / lowest.p99,
            target=limits[0],
            p99_target=limits[1],
        )


def _say(say: Say, name: str, text: str) -> None:
    say(f"{name}: {text}")


def _throughput(
    below: Floor, asker: Asker, scale: float, rounds: int, say: Say
) -> Iterator[Figure]:
    """Many questions in one commit, and many in a commit each."""
    many, some = max(20, round(MANY * scale)), OUTSTANDING
    yield from _rates(
        "floor, 64 outstanding",
        {
            "floor, 64 outstanding": _rate(some, lambda: below.ask([TEXT] * some, together=True)),
            "64 outstanding": _rate(some, lambda: asker.together(some)),
        },
        {"64 outstanding": 0.3},
        rounds,
        say,
    )
    laps = {
        "floor, 1,000 one by one": _rate(many, lambda: below.ask([TEXT] * many)),
        "1,000 one by one": _rate(many, lambda: asker.singly(many)),
    }
    for spread in SPREADS:
        places = asker.conversations(spread if scale >= 1 else min(spread, many))
        name = f"1,000 one by one in {spread:,} conversation{'s' if spread > 1 else ''}"
        laps[name] = _rate(many, partial(asker.in_order, many, places))
    targets = {name: 0.25 if name.endswith("in 1 conversation") else 0.4 for name in laps}
    yield from _rates("floor, 1,000 one by one", laps, targets, rounds, say)


def _instances(asker: Asker, scale: float, rounds: int, say: Say) -> Iterator[Figure]:
    """The same over several instances; what only echoes gains nothing by them, and should not
    lose."""
    many = max(20, round(MANY * scale))
    shards = {"1 instance": "main"} | {f"{count} instances": f"by{count}" for count in INSTANCES}
    laps = {
        f"1,000 one by one, {name}": _rate(many, partial(asker.singly, many, shard))
        for name, shard in shards.items()
    }
    yield from _rates(next(iter(laps)), laps, {}, rounds, say)


def _rates(
    lowest: str, laps: dict[str, Lap], targets: dict[str, float], rounds: int, say: Say
) -> Iterator[Figure]:
    """Yield how many questions a second there were, beside the `lowest` of them."""
    seen = interleave(laps, rounds, say)
    for name, spread in seen.items():
        beside = name != lowest
        yield Figure(
            section=SECTION,
            name=name,
            value=spread.p50,
            unit="per_s",
            floor=lowest if beside else None,
            ratio=spread.p50 / seen[lowest].p50 if beside else None,
            target=targets.get(name) if beside else None,
            at_least=True,
        )


def _each(count: int, ask: Callable[[], object]) -> Lap:
    """Return a lap of so many questions, each waited for; its samples are seconds."""
    return lambda: [_seconds(ask) for _ in range(count)]


def _rested(pause: float, ask: Callable[[], object]) -> Lap:
    """Return a lap of one question after a pause."""

    def lap() -> list[float]:
        time.sleep(pause)
        return [_seconds(ask)]

    return lap


def _rate(count: int, ask: Callable[[], object]) -> Lap:
    """Return a lap of so many questions; its one sample is how many a second there were."""
    return lambda: [count / _seconds(ask)]


def _seconds(ask: Callable[[], object]) -> float:
    began = time.perf_counter()
    ask()
    return time.perf_counter() - began
